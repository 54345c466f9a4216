"""Where the features of a view are kept."""

from xgap_analysis.core.errors import XgapError
from xgap_analysis.store import Store


def kept_in(store: Store | str | None) -> Store | None:
    """The store that a view was given: the user's for `"default"`; None keeps nothing.

    Raises:
        XgapError: any other word.
    """
    if isinstance(store, str):
        if store != "default":
            raise XgapError(f'store is a Store, "default" or None, not {store!r}')
        return Store()
    return store
