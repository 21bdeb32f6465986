"""A server with a slow fake voice that prints its address and runs until it gets a signal: serve_slowly.py."""

from __future__ import annotations

from serving import fake_models

from csmkit.serve import ServeOptions, Server


def main() -> None:
    server = Server(ServeOptions(port=0), fake_models(frame_s=0.02))
    print(server.address, flush=True)
    server.run()


if __name__ == "__main__":
    main()
