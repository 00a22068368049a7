"""The graph of a service as a picture: boxes and labelled edges, and what writes them as text, Mermaid and SVG."""
