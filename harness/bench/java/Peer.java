// How fast does RabbitMQ's Java client publish to a queue with confirms, or consume from it with acknowledgements?
//
//   java Peer.java publish|consume HOST PORT USER PASSWORD QUEUE COUNT WINDOW SIZE PERSISTENT MANDATORY
//
// WINDOW: publishes unanswered, or deliveries unsettled, at most. Prints messages a second on standard output, without
// the first quarter, in which the machine code is still being made.

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import java.util.concurrent.ConcurrentNavigableMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

public class Peer {
    static final long LIMIT_S = 60;
    static final AtomicLong begun = new AtomicLong();

    public static void main(String[] words) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost(words[1]);
        factory.setPort(Integer.parseInt(words[2]));
        factory.setUsername(words[3]);
        factory.setPassword(words[4]);
        factory.setAutomaticRecoveryEnabled(false);
        String queue = words[5];
        int count = Integer.parseInt(words[6]);
        int window = Integer.parseInt(words[7]);
        Connection connection = factory.newConnection();
        Channel channel = connection.createChannel();
        CountDownLatch done = new CountDownLatch(count);
        if (words[0].equals("publish")) {
            AMQP.BasicProperties properties =
                new AMQP.BasicProperties.Builder().deliveryMode(Boolean.parseBoolean(words[9]) ? 2 : 1).build();
            publish(channel, queue, count, window, new byte[Integer.parseInt(words[8])], properties,
                Boolean.parseBoolean(words[10]), done);
        } else {
            consume(channel, queue, count, window, done);
        }
        if (!done.await(LIMIT_S, TimeUnit.SECONDS)) {
            System.err.println(done.getCount() + " of " + count + " messages missing after " + LIMIT_S + " s");
            System.exit(1);
        }
        double seconds = (System.nanoTime() - begun.get()) / 1e9;
        System.out.println((count - count / 4) / seconds);
        connection.close();
    }

    static void count(CountDownLatch done, int of) {
        done.countDown();
        if (done.getCount() == of - of / 4) {
            begun.set(System.nanoTime());
        }
    }

    static void publish(Channel channel, String queue, int count, int window, byte[] body,
            AMQP.BasicProperties properties, boolean mandatory, CountDownLatch done) throws Exception {
        Semaphore room = new Semaphore(window);
        ConcurrentNavigableMap<Long, Boolean> open = new ConcurrentSkipListMap<>();
        channel.confirmSelect();
        channel.addConfirmListener((tag, multiple) -> {
            if (multiple) {
                ConcurrentNavigableMap<Long, Boolean> answered = open.headMap(tag, true);
                int size = answered.size();
                answered.clear();
                for (int i = 0; i < size; i++) {
                    count(done, count);
                }
                room.release(size);
            } else if (open.remove(tag) != null) {
                count(done, count);
                room.release();
            }
        }, (tag, multiple) -> {
            System.err.println("a publish was refused");
            System.exit(1);
        });
        for (int i = 0; i < count; i++) {
            if (!room.tryAcquire(LIMIT_S, TimeUnit.SECONDS)) {
                return;
            }
            open.put(channel.getNextPublishSeqNo(), Boolean.TRUE);
            channel.basicPublish("", queue, mandatory, properties, body);
        }
    }

    static void consume(Channel channel, String queue, int count, int window, CountDownLatch done) throws Exception {
        channel.basicQos(window);
        channel.basicConsume(queue, false, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body)
                    throws java.io.IOException {
                channel.basicAck(envelope.getDeliveryTag(), false);
                count(done, count);
            }
        });
    }
}
