// Graphile Worker. Called as: graphile.mjs migrate|load|work|enqueue URL [JSON]
import pg from "pg";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { enqueue } from "./pacing.mjs";
import { makeRecorder } from "./recorder.mjs";

const LOAD_SIZE = 50_000;
const BULK = `select count(*) from graphile_worker.add_jobs(array(
  select json_populate_record(null::graphile_worker.job_spec,
           json_build_object('identifier', 'noop', 'payload', json_build_object('n', n)))
    from generate_series($1::bigint, $2::bigint) n))`;

const [role, connectionString, json = "{}"] = process.argv.slice(2);
const given = JSON.parse(json);
// Its default logger tells of each job on stdout; ours writes a line for each as well, but a quiet peer is a faster one.
const logger = new Logger(() => (level, message) => level === "error" && console.error(message));

async function work() {
  const ran = makeRecorder();
  const taskList = { noop: ({ n }) => ran(n), urgent: ({ n }) => ran(n) };
  // Its own handler of SIGTERM ends the process by that signal, and so without the record of what ran.
  const preset = { worker: { connectionString, logger, ...given } };
  const runner = await run({ preset, taskList, parsedCronItems: [], noHandleSignals: true });
  await new Promise((done) => process.once("SIGTERM", done));
  await runner.stop();
  await runner.promise;
}

async function add() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  // As its documentation says for the library: addJob with a plain payload. An urgent job has a lower priority number.
  const one = given.urgent
    ? (n) => utils.addJob("urgent", { n }, { priority: -10 })
    : (n) => utils.addJob("noop", { n });
  const many = (numbers) => utils.addJobs(numbers.map((n) => ({ identifier: "noop", payload: { n } })));
  await enqueue(given, Array(given.clients ?? 1).fill(one), many); // the pool has a connection for each
  await utils.release();
}

async function load() {
  const client = new pg.Client({ connectionString });
  await client.connect();
  for (let first = given.first; first < given.first + given.count; first += LOAD_SIZE) {
    const last = Math.min(first + LOAD_SIZE, given.first + given.count) - 1;
    await client.query(BULK, [first, last]);
  }
  await client.end();
}

async function migrate() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  await utils.release();
}

await { migrate, load, work, enqueue: add }[role]();
if (role !== "work") process.exit(0);
