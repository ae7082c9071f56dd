// IPVS, nftables and kernel WireGuard together, on machines that have none of them: a virtual machine runs this tree's own tests.
import assert from 'node:assert/strict'
import { testProgram } from '../programs.ts'
import { guestRequirements, runInGuest } from './support/guest.ts'
import { requireLab } from './support/require.ts'

const TREE = new URL('../..', import.meta.url).pathname
// Alone it takes four minutes. Beside the other groups of `make test` it shares two processors with three of them.
const DEADLINE_MS = 2_400_000

interface Report {
  readonly stats: { readonly passes: number; readonly failures: number; readonly pending: number }
  readonly tests: readonly { readonly fullTitle: string; readonly duration?: number }[]
  readonly failures: readonly { readonly fullTitle: string; readonly err: { readonly message?: string } }[]
}

describe('in a guest with kernel WireGuard, IPVS and nftables', () => {
  before(function () {
    requireLab(this)
    const reason = guestRequirements()
    if (reason === undefined) return
    console.error(`SKIPPED: ${reason}`)
    this.skip()
  })

  it('the load balancer contract holds for IPVS, and requests pass through all three', async function () {
    this.timeout(DEADLINE_MS + 10_000)
    const mocha = ['node_modules/mocha/bin/mocha.js', '--config', 'test/mocharc.json', '--timeout', '1500000']
    const report = ['--reporter', 'json', '--reporter-option', 'output=%results%/report.json']
    const result = await runInGuest({
      cwd: TREE,
      argv: [process.execPath, ...mocha, ...report, testProgram('lab/guest/*.inside')],
      deadlineMs: DEADLINE_MS
    })
    const text = result.files.get('report.json')
    assert.ok(text !== undefined, `no report\n${result.output.slice(-3000)}\n${result.console.slice(-3000)}`)
    const { stats, failures, tests } = JSON.parse(text) as Report
    const failed = failures.map(({ fullTitle, err }) => `${fullTitle}: ${err.message}`)
    assert.deepEqual(failed, [])
    for (const { fullTitle, duration } of tests) console.log(`      ✔ ${fullTitle} (${duration} ms)`)
    assert.equal(stats.pending, 0)
    assert.ok(stats.passes >= 22, `only ${stats.passes} tests ran`)
    assert.equal(result.exitCode, 0)
  })

  it('a program that hangs is ended at the deadline, and leaves no process', async function () {
    const result = await runInGuest({ cwd: TREE, argv: ['sleep', '1000'], deadlineMs: 8000 })
    assert.equal(result.exitCode, undefined)
    assert.match(result.console, /ended after 8000 ms/)
  })
})
