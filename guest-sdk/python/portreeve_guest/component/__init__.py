"""Between the contract and the types of this package, inside a component. Not for authors."""
