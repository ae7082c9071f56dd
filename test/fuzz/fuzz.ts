// Runs a decoder on hostile inputs that follow from a seed. A failure names seed and case and prints the input in base64:
//   FUZZ_SEED=<seed> FUZZ_CASE=<case> repeats one, FUZZ_CASES=<n> runs more of each.
// Time is judged against the size of the input and generously, in CPU time, which a busy machine does not stretch. A hang is
// ended by a watchdog that prints the input, too.
import { Worker } from 'node:worker_threads'
import { Random } from '../sim/random.ts'

/** Of one case, ms, and for each KiB of it: a hundred times what any decoder takes here. */
const CASE_MS_MAX = 2000
const CASE_MS_PER_KIB_MAX = 50
const HANG_MS = 30_000
const INPUT_BYTES_MAX = 4 * 1024 * 1024

export interface Target<T> {
  /** In `make test`; FUZZ_CASES takes its place. */
  readonly cases: number
  readonly make: (random: Random) => T
  readonly bytesOf: (input: T) => readonly Uint8Array[]
  /** Throws when the decoder did what it must not. */
  readonly act: (input: T, random: Random) => void | Promise<void>
}

/** How many cases a test runs, and a mocha timeout for them. */
export function budget(cases: number): { readonly cases: number; readonly timeoutMs: number } {
  const wanted = Number(process.env['FUZZ_CASES'] ?? cases)
  return { cases: wanted, timeoutMs: 600_000 + wanted * 20 }
}

export async function fuzz<T>(title: string, target: Target<T>): Promise<void> {
  const seed = Number(process.env['FUZZ_SEED'] ?? 1)
  const only = process.env['FUZZ_CASE']
  const { cases } = budget(target.cases)
  const numbers = only === undefined ? Array.from({ length: cases }, (_, index) => index) : [Number(only)]
  for (const number of numbers) {
    const random = new Random(Math.imul(seed, 0x9e3779b1) ^ number)
    const input = target.make(random)
    const parts = target.bytesOf(input)
    const story = () => `${title}: FUZZ_SEED=${seed} FUZZ_CASE=${number}\n  ${parts.map(base64).join('\n  ')}`
    watch(story)
    const startMs = cpuMs()
    // Mocha records whole stacks, which makes an error in deep recursion quadratic; Node's default does not.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 10
    try {
      await target.act(input, random)
    } catch (error) {
      throw new Error(`${story()}\n${error instanceof Error ? error.message : String(error)}`, {
        cause: error
      })
    } finally {
      Error.stackTraceLimit = stackTraceLimit
      rest()
    }
    const tookMs = cpuMs() - startMs
    const kib = parts.reduce((sum, part) => sum + part.length, 0) / 1024
    const mostMs = CASE_MS_MAX + kib * CASE_MS_PER_KIB_MAX
    if (tookMs > mostMs)
      throw new Error(`${story()}\ntook ${Math.round(tookMs)} ms for ${Math.round(kib)} KiB`)
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** For inputs that are single byte strings. */
export const single = { bytesOf: (input: Uint8Array) => [input] }

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

// ------------------------------------------------------------------ the watchdog

interface Watchdog {
  /** 0: how many cases have begun; 1: bytes of the story, 0 at rest. */
  readonly state: Int32Array
  readonly story: Uint8Array
}

let watchdog: Watchdog | undefined

function watch(story: () => string): void {
  watchdog ??= startWatchdog()
  const { written } = new TextEncoder().encodeInto(story(), watchdog.story)
  Atomics.store(watchdog.state, 1, written)
  Atomics.add(watchdog.state, 0, 1)
}

function rest(): void {
  if (watchdog !== undefined) Atomics.store(watchdog.state, 1, 0)
}

/** A thread of its own: code that hangs lets no timer of this one fire. */
function startWatchdog(): Watchdog {
  const shared = new SharedArrayBuffer(8 + INPUT_BYTES_MAX)
  const worker = new Worker(new URL('./watchdog.ts', import.meta.url), {
    workerData: { shared, hangMs: HANG_MS }
  })
  worker.unref()
  return { state: new Int32Array(shared, 0, 2), story: new Uint8Array(shared, 8) }
}
