"""Where the features of a view are kept."""

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store import Store


def kept_in(store: Store | str | None) -> Store | None:
    """The store that a view was given: the user's for `"default"`; None keeps nothing.

    Raises:
        XgapError: anything else.
    """
    if isinstance(store, str) and store == "default":
        return Store()
    if store is not None and not isinstance(store, Store):
        raise XgapError(f'store is a Store, as in xg.Store("my-folder"), "default" or None, not {store!r}')
    return store
