"""Programs for working on Coverslip itself; they are not installed with it."""
