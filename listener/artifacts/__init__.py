"""What lies at AIP_STORAGE_URI or LISTENER_REPOSITORY: told apart, fetched if it lies in Cloud Storage, and served.

    layout     is it a model repository, a service or one model?                         (pure, but for one look)
    single     a repository of links around one model
    choice     which service follows from that and from the other settings
    bucket     names of objects -> files of a folder                                     (pure)
    cloud      Google's client: lists, has credentials; its errors as sentences
    reading    bytes of objects over HTTP, in connections that are kept
    tokens     one for all threads that read
    obstacles  what another try does not mend: certificates, proxies
    patience   how long is waited before another try, and when it is enough
    parts      how objects are cut, and what of them is there                            (pure)
    checksum   CRC32C, of bytes and of joined pieces                                     (pure)
    unpacking  objects that are stored packed                                           (pure)
    journal    notes on the disk what is there
    transfers  all objects into files, by many threads; verified
    fetch      the process that fetches: list, refuse or transfer, publish by one rename
    store      the folder that it is published in, with its locks
    delivery   the parent of that process: `listener up` and `listener triton`
    handover   how workers learn where it lies
    progress   how far it is: counted, told in the log and to the workers; `bar` shows it at a terminal
    into       `listener fetch`: into a folder that a person names

Nothing here imports Google's client but `cloud`, `reading`, `tokens`, `obstacles`, `transfers`, `fetch` and `into`, in
processes of their own.
"""
