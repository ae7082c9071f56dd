// IPVS on machines without it: User Mode Linux boots this tree's own tests in a kernel that has it.
import assert from 'node:assert/strict'
import { runInUml, umlRequirements } from './uml.ts'
import { requireLab } from './require.ts'

const TREE = new URL('../..', import.meta.url).pathname
const DEADLINE_MS = 150_000
const MODULES = ['ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_mh', 'ip_vs_lc', 'ip_vs_sh', 'nf_tables']

interface Report {
  readonly stats: { readonly passes: number; readonly failures: number; readonly pending: number }
  readonly tests: readonly { readonly fullTitle: string; readonly duration?: number }[]
  readonly failures: readonly { readonly fullTitle: string; readonly err: { readonly message?: string } }[]
}

describe('in User Mode Linux, a kernel with IPVS', () => {
  before(function () {
    requireLab(this)
    const reason = umlRequirements()
    if (reason === undefined) return
    console.error(`SKIPPED: ${reason}`)
    this.skip()
  })

  it('the load balancer contract holds, and a client reaches pods through IPVS and WireGuard', async function () {
    this.timeout(DEADLINE_MS + 10_000)
    const mocha = ['node_modules/mocha/bin/mocha.js', '--config', 'test/mocharc.json', '--timeout', '60000']
    const report = ['--reporter', 'json', '--reporter-option', 'output=%results%/report.json']
    const files = ['test/lab/uml/ipvs.inside.ts', 'test/lab/uml/path.inside.ts']
    const result = await runInUml({
      cwd: TREE,
      modules: MODULES,
      argv: [process.execPath, ...mocha, ...report, ...files],
      deadlineMs: DEADLINE_MS
    })
    const text = result.files.get('report.json')
    assert.ok(text !== undefined, `no report\n${result.output.slice(-3000)}\n${result.console.slice(-3000)}`)
    const { stats, failures, tests } = JSON.parse(text) as Report
    const failed = failures.map(({ fullTitle, err }) => `${fullTitle}: ${err.message}`)
    assert.deepEqual(failed, [])
    for (const { fullTitle } of tests) console.log(`      ✔ ${fullTitle}`)
    assert.equal(stats.pending, 0)
    assert.ok(stats.passes >= 20, `only ${stats.passes} tests ran`)
    assert.equal(result.exitCode, 0)
  })

  it('a program that hangs is ended at the deadline, and leaves no process', async function () {
    this.timeout(40_000)
    const result = await runInUml({ cwd: TREE, modules: [], argv: ['sleep', '1000'], deadlineMs: 6000 })
    assert.equal(result.exitCode, undefined)
    assert.match(result.console, /ended after 6000 ms/)
  })
})
