// Publishes COUNT messages with paho's Java client and prints, as JSON, what the server answered. The session is kept, and
// a lost connection is made anew.
//
// Usage: java -cp 'LIBS/*' PahoPublish.java HOST PORT 311|5 TOPIC PREFIX COUNT QOS

import java.nio.charset.StandardCharsets;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

public class PahoPublish {
    static final int WINDOW = 50;

    final String server;
    final String topic;
    final String prefix;
    final int count;
    final int qos;
    final AtomicInteger connects = new AtomicInteger();
    final ConcurrentLinkedQueue<Integer> acknowledged = new ConcurrentLinkedQueue<>();
    final CountDownLatch finished;
    final Semaphore window = new Semaphore(WINDOW);

    PahoPublish(String[] arguments) {
        server = "tcp://" + arguments[0] + ":" + arguments[1];
        topic = arguments[3];
        prefix = arguments[4];
        count = Integer.parseInt(arguments[5]);
        qos = Integer.parseInt(arguments[6]);
        finished = new CountDownLatch(count);
    }

    public static void main(String[] arguments) throws Exception {
        PahoPublish publish = new PahoPublish(arguments);
        if (arguments[2].equals("5")) publish.five(); else publish.three();
        if (!publish.finished.await(600, TimeUnit.SECONDS)) {
            System.err.println(publish.finished.getCount() + " messages have no answer after 600 s");
            System.exit(1);
        }
        System.out.println("{\"connects\": " + publish.connects
            + ", \"acknowledged\": ["
            + publish.acknowledged.stream().map(number -> "{\"number\": " + number + "}").collect(Collectors.joining(","))
            + "]}");
        System.exit(0);
    }

    byte[] payload(int number) {
        return (prefix + ":0:" + number + " ").getBytes(StandardCharsets.UTF_8);
    }

    void answered(int number) {
        acknowledged.add(number);
        window.release();
        finished.countDown();
    }

    void three() throws Exception {
        var client = new org.eclipse.paho.client.mqttv3.MqttAsyncClient(
            server, "pahojava-" + prefix, new org.eclipse.paho.client.mqttv3.persist.MemoryPersistence());
        var options = new org.eclipse.paho.client.mqttv3.MqttConnectOptions();
        options.setMqttVersion(org.eclipse.paho.client.mqttv3.MqttConnectOptions.MQTT_VERSION_3_1_1);
        options.setCleanSession(false);
        options.setAutomaticReconnect(true);
        options.setMaxReconnectDelay(1000);
        options.setMaxInflight(WINDOW * 2);
        client.setCallback(new org.eclipse.paho.client.mqttv3.MqttCallbackExtended() {
            public void connectComplete(boolean again, String server) { connects.incrementAndGet(); }
            public void connectionLost(Throwable cause) { }
            public void messageArrived(String topic, org.eclipse.paho.client.mqttv3.MqttMessage message) { }
            public void deliveryComplete(org.eclipse.paho.client.mqttv3.IMqttDeliveryToken token) {
                if (token.getUserContext() != null) answered((Integer) token.getUserContext());
            }
        });
        client.connect(options).waitForCompletion(30_000);
        for (int number = 0; number < count; number++) {
            window.acquire();
            while (true) {
                try {
                    client.publish(topic, payload(number), qos, false, number, null);
                    break;
                } catch (org.eclipse.paho.client.mqttv3.MqttException error) {
                    // Not connected: nothing was taken.
                    Thread.sleep(50);
                }
            }
        }
        finished.await(600, TimeUnit.SECONDS);
        client.disconnect().waitForCompletion(10_000);
    }

    void five() throws Exception {
        var client = new org.eclipse.paho.mqttv5.client.MqttAsyncClient(
            server, "pahojava-" + prefix, new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence());
        var options = new org.eclipse.paho.mqttv5.client.MqttConnectionOptions();
        options.setCleanStart(false);
        options.setSessionExpiryInterval(3600L);
        options.setAutomaticReconnect(true);
        options.setAutomaticReconnectDelay(1, 1);
        options.setMaxReconnectDelay(1000);
        client.setCallback(new org.eclipse.paho.mqttv5.client.MqttCallback() {
            public void connectComplete(boolean again, String server) { connects.incrementAndGet(); }
            public void disconnected(org.eclipse.paho.mqttv5.client.MqttDisconnectResponse response) { }
            public void mqttErrorOccurred(org.eclipse.paho.mqttv5.common.MqttException error) { }
            public void messageArrived(String topic, org.eclipse.paho.mqttv5.common.MqttMessage message) { }
            public void authPacketArrived(int code, org.eclipse.paho.mqttv5.common.packet.MqttProperties properties) { }
            public void deliveryComplete(org.eclipse.paho.mqttv5.client.IMqttToken token) {
                if (token.getUserContext() != null) answered((Integer) token.getUserContext());
            }
        });
        client.connect(options).waitForCompletion(30_000);
        for (int number = 0; number < count; number++) {
            window.acquire();
            while (true) {
                try {
                    client.publish(topic, payload(number), qos, false, number, null);
                    break;
                } catch (org.eclipse.paho.mqttv5.common.MqttException error) {
                    Thread.sleep(50);
                }
            }
        }
        finished.await(600, TimeUnit.SECONDS);
        client.disconnect().waitForCompletion(10_000);
    }
}
