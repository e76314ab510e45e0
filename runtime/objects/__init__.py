"""The one object-store seam: `open_store(url)` for s3://, gs://, az:// and file://.

Only get, put, put-if-absent, list and delete are needed of a store. Compare-and-swap is not, since
a folder has none. Keys use `[A-Za-z0-9._/-]` alone: other characters sign differently per client.
"""

from runtime.objects.opening import open_store
from runtime.objects.patience import Patience
from runtime.objects.store import ObjectInfo, Store, file_url, folder_of

__all__ = ["ObjectInfo", "Patience", "Store", "file_url", "folder_of", "open_store"]
