"""The feature store on disk: rows of items, found by what the items are, in shards that are checked when they are read.

An entry is one kind of computation: its key is the SHA-256 of what determines the numbers (model, preprocess, options),
and of no name, path or list. In it, an item is found by a digest of its content: a longer list, a subset or another
order computes what is new and nothing else. Its folder `root/store/<key[:2]>/<key>/` holds

    entry.json                   what is computed, written first
    <sha256>.safetensors, ...    shards: rows of items and the items' digests, each named by the digest of its bytes

The folder is its own list. A shard appears whole, by one rename, and is never changed; several processes write at
the same time without a lock, and what they wrote is read as a union. Only headers are read to find an item. A row is
served from a shard whose bytes have the digest of its name; any other shard is reported and removed, and its items are
computed again.

Who computes an item is an engine's business (`store.engines`). Each run that reads an entry sets the time of its
`entry.json`, by which `prune` knows the least recently used ones.

Which items are computed together depends on which are there already. A row does not, beyond the rounding of another
batch. The store knows no model, and nothing in it is a pickle.
"""

from xgap_analysis.store.engines import Engine as Engine
from xgap_analysis.store.engines import ShareStored as ShareStored
from xgap_analysis.store.engines import engine as engine
from xgap_analysis.store.entries import Damage as Damage
from xgap_analysis.store.entries import Entry as Entry
from xgap_analysis.store.entries import Store as Store
from xgap_analysis.store.keys import entry_key as entry_key
from xgap_analysis.store.keys import key_of as key_of
from xgap_analysis.store.pruning import Pruned as Pruned
from xgap_analysis.store.pruning import prune as prune
from xgap_analysis.store.tasks import Rows as Rows
from xgap_analysis.store.tasks import Worker as Worker
from xgap_analysis.store.tasks import compute as compute
