// pg-boss. Called as: pgboss.mjs migrate|load|work|enqueue URL [JSON]
import { PgBoss } from "pg-boss";
import { enqueue } from "./pacing.mjs";
import { makeRecorder } from "./recorder.mjs";

const LOAD_SIZE = 10_000;

const [role, connectionString, json = "{}"] = process.argv.slice(2);
const given = JSON.parse(json);
const range = (first, size) => Array.from({ length: size }, (_, index) => first + index);
const job = (n) => ({ data: { n } });

async function started(options) {
  const boss = new PgBoss({ connectionString, ...options });
  boss.on("error", console.error);
  await boss.start();
  return boss;
}

async function work() {
  const ran = makeRecorder();
  const boss = await started({ max: 20, ...given.boss });
  const handler = async (jobs) => {
    for (const { data } of jobs) ran(data.n);
  };
  for (const queue of given.queues ?? ["noop"]) await boss.work(queue, given.work ?? {}, handler);
  await new Promise((done) => process.once("SIGTERM", done));
  await boss.stop({ graceful: true, timeout: 15_000 });
}

async function add() {
  const boss = await started({ supervise: false, schedule: false });
  const queue = given.urgent ? "urgent" : "noop";
  const one = (n) => boss.send(queue, { n });
  const many = (numbers) => boss.insert("noop", numbers.map(job));
  await enqueue(given, Array(given.clients ?? 1).fill(one), many);
  await boss.stop({ graceful: false });
}

async function load() {
  const boss = await started({ supervise: false, schedule: false });
  for (let first = given.first; first < given.first + given.count; first += LOAD_SIZE) {
    const size = Math.min(LOAD_SIZE, given.first + given.count - first);
    await boss.insert("noop", range(first, size).map(job));
  }
  await boss.stop({ graceful: false });
}

async function migrate() {
  const boss = await started({ supervise: false, schedule: false });
  await boss.createQueue("noop", { notify: true });
  await boss.createQueue("urgent", { notify: true });
  await boss.stop({ graceful: false });
}

await { migrate, load, work, enqueue: add }[role]();
process.exit(0);
