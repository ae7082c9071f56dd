// The demo as a user runs it, twice: every check holds, and the machine is as it was.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CheckResult } from '../demo/checks.ts'
import { Lab } from '../lab/support/netns.ts'
import { requireLab } from '../lab/support/require.ts'
import { build } from '../built.ts'
import { ROOT } from './harness.ts'

describe('make demo ARGS="--once --json"', () => {
  before(function () {
    requireLab(this)
    build()
  })

  for (const run of ['a first run', 'a second run right after it']) {
    it(`${run} holds every check and leaves nothing behind`, async function () {
      const before = machine()
      // Ended before mocha gives up, so that it cleans up and what it told is seen.
      const demo = spawn(process.execPath, [join(ROOT, 'test/demo/main.ts'), '--once', '--json'], {
        timeout: 400_000
      })
      let [stdout, stderr] = ['', '']
      demo.stdout.on('data', (chunk) => (stdout += String(chunk)))
      demo.stderr.on('data', (chunk) => (stderr += String(chunk)))
      const [code] = (await once(demo, 'close')) as [number | null]
      assert.notEqual(stdout, '', `ended with ${code}:\n${stderr}`)
      const { checks } = JSON.parse(stdout) as { checks: CheckResult[] }
      assert.deepEqual(
        checks.filter(({ ok }) => !ok),
        [],
        stderr
      )
      assert.equal(code, 0)
      for (const name of MEASURED) {
        const found = checks.find((check) => check.name.includes(name))
        assert.ok(found !== undefined && found.ms > 0 && /\d ms/.test(found.detail), `not measured: ${name}`)
      }
      assert.deepEqual(machine(), before)
      const id = /rhizome-([0-9a-z]{4})-/.exec(stderr)?.[1] ?? assert.fail(`no lab in\n${stderr}`)
      assert.deepEqual(await Lab.leftovers(id), [])
      assert.deepEqual(traces(id), [])
    })
  }
})

const MEASURED = [
  'from token to first answered request',
  'a removed endpoint gets no more traffic',
  'an added endpoint gets traffic'
]

/** The network of the machine itself. Namespaces and files may be of another lab: those are told by their id. */
function machine(): Readonly<Record<string, string>> {
  const shown = (...argv: readonly [string, ...string[]]) =>
    execFileSync(argv[0], argv.slice(1), { encoding: 'utf8' })
  return {
    links: shown('ip', '-o', 'link').replaceAll(/^\d+: /gm, ''),
    rules: shown('ip', 'rule'),
    routes: shown('ip', 'route', 'show', 'table', 'all'),
    nft: shown('nft', 'list', 'ruleset')
  }
}

/** Files and processes that carry the id of the lab. */
function traces(id: string): string[] {
  const listed = (folder: string) => (existsSync(folder) ? readdirSync(folder) : [])
  return [
    ...listed(tmpdir()).filter((name) => name.startsWith(`rhizome-${id}-`)),
    ...['/run/netns', '/etc/netns', '/run/wireguard', '/run/rhizome-lab']
      .flatMap(listed)
      .filter((name) => name === id || name.startsWith(`rz-${id}-`) || name.startsWith(`rz${id}`)),
    ...execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes(`rhizome-${id}-`) || line.includes(`rz${id}`))
  ]
}
