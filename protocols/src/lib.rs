//! Line and string protocols for the twistor reactor.
