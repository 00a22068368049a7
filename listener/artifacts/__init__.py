"""What lies at AIP_STORAGE_URI or LISTENER_REPOSITORY: told apart, fetched if it lies in Cloud Storage, and served.

    layout     is it a model repository, a service or one model?                         (pure, but for one look)
    single     a repository of links around one model
    choice     which service follows from that and from the other settings
    bucket     names of objects -> files of a folder                                     (pure)
    cloud      Google's client: lists and downloads; its errors as sentences
    fetch      the process that fetches: list, refuse or transfer, publish by one rename
    store      the folder that it is published in, with its locks
    delivery   the parent of that process: `listener up` and `listener triton`
    handover   how workers learn where it lies
    progress   how far it is: counted, told in the log and to the workers; `bar` shows it at a terminal
    into       `listener fetch`: into a folder that a person names

Nothing here imports Google's client but `cloud`, `fetch` and `into`, which are processes of their own.
"""
