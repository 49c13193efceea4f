// NATS for Node, unmodified, against the NATS doors of three nodes. Started by
// tests/python/test_nats_clients.py, which says in the environment where they are.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, headers } from "@nats-io/transport-node";

const ports = process.env.NATS_PORTS.split(",");
// A test that waits longer has found a bug.
const PATIENCE = 20_000;

const on = (node, more = {}) => connect({ servers: `127.0.0.1:${ports[node]}`, timeout: PATIENCE, ...more });
const text = (message) => message.string();

async function all(subscription, count) {
  const got = [];
  for await (const message of subscription) {
    got.push(message);
    if (got.length === count) break;
  }
  return got;
}

// Interest takes a moment to reach the other nodes.
async function untilAnswered(client, subject, data) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    try {
      return await client.request(subject, data, { timeout: PATIENCE });
    } catch (error) {
      if (Date.now() > deadline || !/no responders/i.test(String(error))) throw error;
    }
  }
}

test("publish and subscribe over nodes, in order", { timeout: 3 * PATIENCE }, async () => {
  const [one, two] = [await on(0), await on(1)];
  const subscription = two.subscribe("node.cross.>");
  two.subscribe("node.ready", { callback: (_, message) => message.respond() });
  await two.flush();
  await untilAnswered(one, "node.ready", "");
  for (let number = 0; number < 100; number++) one.publish(`node.cross.${number}`, String(number));
  const got = await all(subscription, 100);
  assert.deepEqual(got.map(text), [...Array(100).keys()].map(String));
  await one.close();
  await two.close();
});

test("a queue group gets each message once", { timeout: 3 * PATIENCE }, async () => {
  const clients = [await on(0), await on(1), await on(2)];
  const got = [];
  let done;
  const complete = new Promise((resolve) => (done = resolve));
  for (const client of clients) {
    const callback = (_, message) => got.push(text(message)) === 300 && done();
    client.subscribe("node.queue", { queue: "workers", callback });
    await client.flush();
  }
  for (let number = 0; number < 300; number++) clients[number % 3].publish("node.queue", String(number));
  await complete;
  assert.equal(new Set(got).size, 300);
  for (const client of clients) await client.close();
});

test("requests, and nobody there", { timeout: 3 * PATIENCE }, async () => {
  const [one, two] = [await on(0), await on(2)];
  two.subscribe("node.ask", { callback: (_, message) => message.respond(`to ${text(message)}`) });
  await two.flush();
  assert.equal(text(await untilAnswered(one, "node.ask", "you")), "to you");
  await assert.rejects(one.request("node.nobody", "", { timeout: PATIENCE }), /no responders/i);
  await one.close();
  await two.close();
});

test("headers", { timeout: 3 * PATIENCE }, async () => {
  const client = await on(0);
  const subscription = client.subscribe("node.headers", { max: 1 });
  const sent = headers();
  sent.append("Colour", "blue");
  client.publish("node.headers", "x", { headers: sent });
  const [message] = await all(subscription, 1);
  assert.equal(message.headers.get("Colour"), "blue");
  await client.close();
});

test("drain", { timeout: 3 * PATIENCE }, async () => {
  const [one, two] = [await on(0), await on(0)];
  let got = 0;
  one.subscribe("node.drain", { callback: () => got++ });
  await one.flush();
  for (let number = 0; number < 100; number++) two.publish("node.drain", "x");
  await two.flush();
  await one.drain();
  assert.equal(got, 100);
  await two.close();
});

test("a client goes on at another node when its own is killed", { timeout: 3 * PATIENCE }, async () => {
  const victims = process.env.NATS_VICTIMS.split(",");
  const client = await connect({
    servers: victims.map((port) => `127.0.0.1:${port}`),
    noRandomize: true,
    reconnectTimeWait: 50,
    maxReconnectAttempts: -1,
    timeout: PATIENCE,
  });
  const reconnected = (async () => {
    for await (const status of client.status()) if (status.type === "reconnect") return;
  })();
  const subscription = client.subscribe("node.after", { max: 1 });
  await client.flush();
  process.kill(Number(process.env.NATS_VICTIM_PID), "SIGKILL");
  await reconnected;
  client.publish("node.after", "on");
  assert.equal(text((await all(subscription, 1))[0]), "on");
  await client.close();
});

test("only the right password gets in, over TLS", { timeout: 3 * PATIENCE }, async () => {
  const secure = { servers: `localhost:${process.env.NATS_TLS_PORT}`, tls: { caFile: process.env.NATS_TLS_CA } };
  await assert.rejects(connect({ ...secure, user: "ann", pass: "wrong", timeout: PATIENCE }), /authorization/i);
  const client = await connect({ ...secure, user: "ann", pass: "pw", timeout: PATIENCE });
  const subscription = client.subscribe("node.tls", { max: 1 });
  client.publish("node.tls", "safe");
  assert.equal(text((await all(subscription, 1))[0]), "safe");
  await client.close();
});
