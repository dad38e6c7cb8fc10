"""`python -m edgelathe`, and with it `accelerate launch -m edgelathe`."""

from .cli import main

if __name__ == "__main__":
    main()
