// Ends the process when one fuzz case goes on and on, and says which.
import { writeSync } from 'node:fs'
import { workerData } from 'node:worker_threads'

const { shared, hangMs } = readOptions(workerData)
const state = new Int32Array(shared, 0, 2)
let seen = -1

setInterval(() => {
  const begun = Atomics.load(state, 0)
  const bytes = Atomics.load(state, 1)
  if (begun !== seen || bytes === 0) {
    seen = begun
    return
  }
  const story = Buffer.from(new Uint8Array(shared, 8, bytes)).toString()
  writeSync(2, `\nHANGS: ${story}\n`)
  process.kill(process.pid, 'SIGKILL')
}, hangMs)

function readOptions(data: unknown): { shared: SharedArrayBuffer; hangMs: number } {
  if (typeof data === 'object' && data !== null && 'shared' in data && 'hangMs' in data) {
    const { shared, hangMs } = data
    if (shared instanceof SharedArrayBuffer && typeof hangMs === 'number') return { shared, hangMs }
  }
  throw new TypeError('the watchdog was started without its memory')
}
