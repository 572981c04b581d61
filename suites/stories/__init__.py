"""What is told of brokers, tried: longer faults, each a claim and what it hangs on."""
