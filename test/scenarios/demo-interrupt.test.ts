// A Ctrl-C in the demo, at any moment: one line, exit 0, and nothing stays.
import assert from 'node:assert/strict'
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'
import { requireLab } from '../lab/support/require.ts'
import { build } from '../built.ts'
import { ROOT } from './harness.ts'

const MOMENTS: readonly (readonly [string, RegExp])[] = [
  ['while namespaces are made', /Raising three clusters/],
  ['while the agents start', /Starting meshd/],
  ['during a join', /east\$ meshctl join/],
  ['while requests are checked', /Every pod reaches every service/],
  ['while a cluster is without power', /west loses power/],
  ['while it stays up', /Ctrl-C takes it all down/]
]

describe('make demo, interrupted', function () {
  before(function () {
    requireLab(this)
    build()
  })

  afterEach(() => {
    // Those of a test that failed still run, each with a group of processes of its own.
    for (const { pid, exitCode, signalCode } of running.splice(0))
      if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL')
  })

  for (const [what, moment] of MOMENTS) {
    it(`${what}: says one line, exits 0 and leaves nothing`, async () => {
      const demo = started([process.execPath, join(ROOT, 'test/demo/main.ts')])
      await eventually(() => moment.test(demo.said()) || demo.child.exitCode !== null, 180_000)
      assert.equal(demo.child.exitCode, null, `it ended before that moment:\n${demo.said()}`)
      const before = demo.said().length
      // As a terminal does it: the whole group hears of it, the agents and pods, too.
      process.kill(-(demo.child.pid ?? assert.fail()), 'SIGINT')
      const [code] = (await once(demo.child, 'close')) as [number | null]
      assert.equal(code, 0, demo.said())
      // What was under way may have been told before the signal came.
      assert.match(demo.said().slice(before), /^[^]*Gone\.\n$/)
      assert.equal([...demo.said().matchAll(/^Gone\.$/gm)].length, 1)
      assert.doesNotMatch(demo.said().slice(before), /did not end|Error|\n {4}at /)
      assert.deepEqual(demo.traces(), [])
    })
  }

  it('with --once is no success', async () => {
    const demo = started([process.execPath, join(ROOT, 'test/demo/main.ts'), '--once'])
    await eventually(() => /Starting meshd/.test(demo.said()), 60_000)
    process.kill(-(demo.child.pid ?? assert.fail()), 'SIGINT')
    const [code] = (await once(demo.child, 'close')) as [number | null]
    assert.equal(code, 130)
    assert.deepEqual(demo.traces(), [])
  })

  it('at a terminal, make itself exits 0 as well', async () => {
    // script makes the terminal; -e passes on the exit code.
    const demo = started(['script', '-qec', 'make --no-print-directory demo', '/dev/null'])
    await eventually(() => /Starting meshd/.test(demo.said()), 100_000)
    demo.child.stdin?.write('\u0003')
    const [code] = (await once(demo.child, 'close')) as [number | null]
    assert.equal(code, 0, demo.said())
    assert.match(demo.said(), /Gone\.\r\n$/)
    assert.doesNotMatch(demo.said(), /make: \*\*\*|Error/)
    assert.deepEqual(demo.traces(), [])
  })
})

const running: ChildProcess[] = []

interface Started {
  readonly child: ChildProcess
  /** Both outputs. */
  said(): string
  /** Namespaces, files and processes of its lab. */
  traces(): readonly string[]
}

function started([file, ...args]: readonly [string, ...string[]]): Started {
  const child = spawn(file, args, { cwd: ROOT, detached: true, stdio: 'pipe' })
  running.push(child)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += String(chunk)))
  return {
    child,
    said: () => text,
    traces: () => {
      const id = /rhizome-([0-9a-z]{4})-/.exec(text)?.[1]
      const listed = (folder: string) => (existsSync(folder) ? readdirSync(folder) : [])
      const ofLab = (name: string) =>
        id !== undefined && [`rhizome-${id}-`, `rz-${id}-`, `rz${id}`].some((part) => name.includes(part))
      return [
        ...['/run/netns', '/etc/netns', '/run/wireguard', tmpdir()].flatMap(listed).filter(ofLab),
        ...execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n').filter(ofLab)
      ]
    }
  }
}
