// Publishes and reads back with MQTT.js, in both versions and at every QoS, over the URL given. RIVULET_CA names a PEM file for TLS.
//
//   mqtt_clients.js URL
const fs = require("fs");
const mqtt = require("mqtt");

const url = process.argv[2];
const ca = process.env.RIVULET_CA ? fs.readFileSync(process.env.RIVULET_CA) : undefined;

async function run(protocolVersion, qos) {
  const options = { protocolVersion, ca, reconnectPeriod: 0, connectTimeout: 10000 };
  const topic = `js/${protocolVersion}/${qos}`;
  const sub = await mqtt.connectAsync(url, options);
  const pub = await mqtt.connectAsync(url, options);
  const got = [];
  const all = new Promise((done) => sub.on("message", (t, payload) => {
    got.push(payload.toString());
    if (got.length === 100) done();
  }));
  await sub.subscribeAsync(topic, { qos });
  const want = [];
  const sent = [];
  for (let i = 0; i < 100; i++) {
    want.push(i === 50 ? "x".repeat(300000) : String(i));
    sent.push(pub.publishAsync(topic, want[i], { qos }));
  }
  await Promise.all(sent);
  await all;
  if (got.join() !== want.join()) throw new Error(`version ${protocolVersion} QoS ${qos}: something else came`);
  await Promise.all([sub.endAsync(), pub.endAsync()]);
  console.log(`ok ${protocolVersion} ${qos}`);
}

(async () => {
  for (const version of [4, 5]) for (const qos of [0, 1, 2]) await run(version, qos);
})().catch((err) => {
  console.error(err);
  process.exit(1);
});
