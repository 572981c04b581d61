"""What is told of brokers, tried: each story is a claim and what it hangs on."""
