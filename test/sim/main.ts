// `make sim SEED=… AGENTS=… FAULTS=… SHAPE=… SEEDS=…`: storms of one seed or many, with what repeats a failure.
import { FAULTS, repeatCommand, storm, stormOfSeed, type Fault, type StormOptions } from './storm.ts'

const { SEED, SEEDS, AGENTS, FAULTS: NAMES, SHAPE } = process.env
const first = Number(SEED || 1)
const count = Number(SEEDS || 1)
const given = {
  ...(AGENTS ? { agents: Number(AGENTS) } : {}),
  ...(NAMES ? { faults: parseFaults(NAMES) } : {}),
  ...(SHAPE ? { shape: parseShape(SHAPE) } : AGENTS && Number(AGENTS) > 10 ? { shape: 'tree' as const } : {})
}

let failed = 0
let worstMs = 0
const startMs = performance.now()
for (let seed = first; seed < first + count; seed++) {
  const options = stormOfSeed(seed, given)
  try {
    const { virtualMs, settledMs } = storm(options)
    worstMs = Math.max(worstMs, settledMs)
    if (count === 1) {
      process.stdout.write(`${repeatCommand(options)}\n`)
      process.stdout.write(
        `holds: ${(virtualMs / 1000).toFixed(0)} s of virtual time, in step ${settledMs} ms after the faults stopped\n`
      )
    }
  } catch (error) {
    failed++
    process.stderr.write(`seed ${seed} fails. Repeat: ${repeatCommand(options)}\n`)
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  }
}
if (count > 1) {
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0)
  process.stdout.write(
    `${count - failed} of ${count} seeds hold, in ${seconds} s; slowest agreement after the faults: ${worstMs} ms\n`
  )
}
process.exitCode = failed > 0 ? 1 : 0

function parseFaults(text: string): ReadonlySet<Fault> {
  if (text === 'none') return new Set()
  if (text === 'all') return new Set(FAULTS)
  return new Set(
    text.split(',').map((name) => {
      const fault = FAULTS.find((known) => known === name)
      if (fault === undefined) throw new Error(`FAULTS=${name}: none of all, none, ${FAULTS.join(', ')}`)
      return fault
    })
  )
}

function parseShape(text: string): StormOptions['shape'] {
  if (text === 'full' || text === 'line' || text === 'tree') return text
  throw new Error(`SHAPE=${text}: none of full, line, tree`)
}
