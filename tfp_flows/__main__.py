"""`python -m tfp_flows`: the command line."""

from tfp_flows.cli import main

if __name__ == "__main__":
    main()
