"""`python -m benchmarks.fetching.manager URI DIR HOW WORKERS [MIB]`: Google's own transfer manager.

HOW is `threads` or `processes` for whole objects at a time, `chunks` for one object after the other in parts of MIB.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager

from listener.artifacts import bucket as buckets


def main() -> None:
    uri, folder, how, workers, *part = sys.argv[1:]
    place = buckets.parse(uri)
    client = storage.Client(project="none", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    bucket = client.bucket(place.name)
    blobs = list(client.list_blobs(place.name, prefix=place.prefix))
    if how == "chunks":
        for blob in blobs:
            file = Path(folder) / blob.name
            file.parent.mkdir(parents=True, exist_ok=True)
            transfer_manager.download_chunks_concurrently(
                blob, str(file), chunk_size=int(part[0]) << 20, max_workers=int(workers)
            )
        return
    transfer_manager.download_many_to_path(
        bucket,
        [blob.name for blob in blobs],
        destination_directory=folder,
        worker_type=transfer_manager.THREAD if how == "threads" else transfer_manager.PROCESS,
        max_workers=int(workers),
        raise_exception=True,
    )


if __name__ == "__main__":
    main()
