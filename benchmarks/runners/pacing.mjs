// pacing.py for Node: the same plans, the same answers.
import { now } from "./recorder.mjs";

const range = (first, size) => Array.from({ length: size }, (_, index) => first + index);
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export async function enqueue(plan, clients, many) {
  if (plan.mode === "paced") {
    await print({ committed: await paced(plan, clients) });
    return;
  }
  const size = plan.mode === "single" ? 1 : plan.size;
  const call = plan.mode === "single" ? (numbers) => clients[0](numbers[0]) : many;
  let number = plan.first;
  await call(range(number, size));
  number += size;
  const began = now();
  let enqueued = 0;
  while (now() < began + plan.seconds) {
    await call(range(number, size));
    number += size;
    enqueued += size;
  }
  await print({ enqueued, seconds: now() - began, last: number - 1 });
}

// Waits until all of it is written: the process exits next.
const print = (told) => new Promise((done) => process.stdout.write(`${JSON.stringify(told)}\n`, done));

async function paced(plan, clients) {
  const schedule = [];
  let due = 0;
  for (const number of range(plan.first, plan.count)) {
    schedule.push([due, number]);
    due += (0.5 + Math.random()) / plan.rate;
  }
  const committed = [];
  const began = now() + 0.05;
  await Promise.all(
    clients.map(async (client, index) => {
      for (let at = index; at < schedule.length; at += clients.length) {
        const [due, number] = schedule[at];
        await sleep(Math.max(0, began + due - now()));
        await client(number);
        committed.push([number, now()]);
      }
    }),
  );
  return committed;
}
