// recorder.py for Node: the same files, the same cost.
import fs from "node:fs";
import path from "node:path";

const PROGRESS_MS = 10;

export function makeRecorder() {
  const directory = process.env.BENCH_RECORD;
  if (!directory) return () => {};
  const numbers = [];
  const moments = [];
  const base = path.join(directory, String(process.pid));
  const file = fs.openSync(`${base}.progress`, "w");
  let told = -1;
  const timer = setInterval(() => {
    if (numbers.length === told) return;
    told = numbers.length;
    fs.writeSync(file, String(told).padStart(12), 0);
  }, PROGRESS_MS);
  timer.unref();
  process.on("exit", () => {
    const bytes = [BigInt64Array.from(numbers, BigInt), Float64Array.from(moments)];
    fs.writeFileSync(`${base}.partial`, Buffer.concat(bytes.map((array) => Buffer.from(array.buffer))));
    fs.renameSync(`${base}.partial`, `${base}.record`);
  });
  return (number) => {
    numbers.push(number);
    moments.push(now());
  };
}

// Seconds since the epoch, in microseconds' resolution.
export function now() {
  return (performance.timeOrigin + performance.now()) / 1000;
}
