// A dot for each test, as mocha's own reporter prints it, and each failure at once: a group of tests may run for many minutes, and one that is ended
// prints no list of failures. At the end come the files that took longest, with the processor time of their tests and of the children that have ended:
// the slowest group decides how long a run takes, and the sum of the processor time how short it can be.
// RHIZOME_FAILED_FILES names a file that then gets the paths of the test files with failures, one in a line (test/runner reads it), and of those with tests
// that did not run: mocha leaves a suite with `bail` out once any other test has failed.
import { readFileSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import mocha from 'mocha'

const { EVENT_RUN_END, EVENT_SUITE_BEGIN, EVENT_SUITE_END, EVENT_TEST_FAIL } = mocha.Runner.constants
const LONGEST = 24
const LONG_MS = 10_000

export default class Reporter extends mocha.reporters.Dot {
  constructor(runner: mocha.Runner, options: mocha.MochaOptions) {
    super(runner, options)
    const failed = new Set<string>()
    runner.on(EVENT_TEST_FAIL, (test, error: Error) => {
      failed.add(relative(process.cwd(), test.file ?? 'unknown'))
      process.stdout.write(`\n  failed: ${test.fullTitle()}: ${error.message}\n`)
    })
    const began = new Map<mocha.Suite, Cost>()
    const costs = new Map<string, Cost>()
    const isOfFile = (suite: mocha.Suite): boolean => suite.parent?.root === true
    runner.on(EVENT_SUITE_BEGIN, (suite) => {
      if (isOfFile(suite)) began.set(suite, costUntilNow())
    })
    runner.on(EVENT_SUITE_END, (suite) => {
      const from = began.get(suite)
      if (from === undefined) return
      const until = costUntilNow()
      const file = relative(process.cwd(), suite.file ?? '')
      const before = costs.get(file) ?? { ms: 0, processorSeconds: 0 }
      costs.set(file, {
        ms: before.ms + until.ms - from.ms,
        processorSeconds: before.processorSeconds + until.processorSeconds - from.processorSeconds
      })
    })
    runner.on(EVENT_RUN_END, () => {
      const list = process.env['RHIZOME_FAILED_FILES']
      if (list === undefined || failed.size === 0) return
      runner.suite.eachTest((test: mocha.Test) => {
        if (test.state === undefined) failed.add(relative(process.cwd(), test.file ?? 'unknown'))
      })
      writeFileSync(list, [...failed, ''].join('\n'))
    })
    runner.on(EVENT_RUN_END, () => {
      const long = [...costs].filter(([, { ms }]) => ms >= LONG_MS).toSorted(([, a], [, b]) => b.ms - a.ms)
      const lines = long
        .slice(0, LONGEST)
        .map(
          ([file, { ms, processorSeconds }]) =>
            `  ${padded(ms / 1000)} s ${padded(processorSeconds)} s  ${file}\n`
        )
      if (lines.length > 0)
        process.stdout.write(`  the longest files, in time and in processor time:\n${lines.join('')}\n`)
    })
  }
}

/** What tests cost. */
interface Cost {
  readonly ms: number
  readonly processorSeconds: number
}

// Clock ticks per second of /proc: USER_HZ, 100 on all platforms of Node (proc(5)).
const TICKS_PER_SECOND = 100

/** The time now, and the processor time of this process and of its children that have ended (utime … cstime of proc(5)). */
function costUntilNow(): Cost {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)?.split(' ').slice(11, 15) ?? []
  const ticks = fields.reduce((sum, each) => sum + Number(each), 0)
  return { ms: performance.now(), processorSeconds: ticks / TICKS_PER_SECOND }
}

const padded = (seconds: number): string => String(Math.round(seconds)).padStart(5)
