"""RabbitMQ, from fire-and-forget to quorum queues."""
