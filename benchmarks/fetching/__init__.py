"""`python -m benchmarks.fetching`: models out of Cloud Storage, by the listener, by Google's transfer manager, by curl.

__main__   the command: all of them in turns, and the page
fetchers   who takes part, as commands that a person could type
places     what is fetched: in the emulator, or from a server whose connections are slow
manager    Google's transfer manager, as a program
parts      the listener with parts of another size, as a program
"""
