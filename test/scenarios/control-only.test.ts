// The demo where the packet path cannot be shown: for a user without any privilege, in a tree that is not theirs.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CheckResult } from '../demo/checks.ts'
import { build } from '../built.ts'
import { ROOT } from './harness.ts'

describe('the demo without privileges', () => {
  let folder = ''

  before(() => {
    build()
    folder = mkdtempSync(join(tmpdir(), 'scenario-'))
    chmodSync(folder, 0o755)
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  it('says why, joins three agents on loopback, answers names and prints plans', async function () {
    const home = join(folder, 'home')
    mkdirSync(home, { mode: 0o777 })
    chmodSync(home, 0o777)
    const tree = join(folder, 'tree')
    mkdirSync(tree)
    const demo = spawn(
      'unshare',
      [
        '--mount',
        'sh',
        '-c',
        AS_NOBODY,
        ROOT,
        tree,
        process.execPath.replace(ROOT, tree),
        join(tree, 'test/demo/main.ts'),
        '--once',
        '--json'
      ],
      { env: { PATH: process.env['PATH'], HOME: home, TMPDIR: home } }
    )
    let [stdout, stderr] = ['', '']
    demo.stdout.on('data', (chunk) => (stdout += String(chunk)))
    demo.stderr.on('data', (chunk) => (stderr += String(chunk)))
    const [code] = (await once(demo, 'close')) as [number | null]
    assert.match(stderr, /The packet path cannot be shown here: network namespaces need root/)
    const { checks } = JSON.parse(stdout) as { checks: CheckResult[] }
    assert.deepEqual(
      checks.filter(({ ok }) => !ok),
      [],
      stderr
    )
    assert.ok(checks.length > 15)
    for (const what of [/cluster\.all/, /NXDOMAIN/, /from token to first answered name/, /has a plan/]) {
      assert.ok(
        checks.some(({ name }) => what.test(name)),
        String(what)
      )
    }
    assert.match(stderr, /wg set|wireguard|ip link/)
    assert.equal(code, 0)
    assert.deepEqual(readdirSync(home), [])
    assert.doesNotMatch(execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }), new RegExp(tree))
  })
})

/** This tree is bound to a folder that everyone can reach, wherever it is itself. */
const AS_NOBODY =
  'mount --bind "$0" "$1" && shift && exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$@"'
