// `meshctl doctor` on real hosts: before a mesh, in a healthy one, and with faults that are set one by one.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DoctorAnswer, FindingRow } from '../../src/api/diagnosis-answers.ts'
import { eventually } from '../eventually.ts'
import { inStep, peer, raise, ROOT, reaches, status, unite } from './harness.ts'

describe('meshctl doctor', function () {
  const { site } = raise('doctor', ['west', 'east'])
  const west = () => site('west')
  const exec = (...argv: readonly string[]) => west().gateway.exec(argv)
  const nft = (on: 'west' | 'east', input: string) => site(on).gateway.exec(['nft', '-f', '-'], { input })

  const doctor = async (): Promise<DoctorAnswer> => {
    const { stdout, stderr } = await west().ctl('doctor', '--json')
    assert.notEqual(stdout, '', stderr)
    return JSON.parse(stdout) as DoctorAnswer
  }
  const found = async (check: string, text: RegExp): Promise<FindingRow | undefined> =>
    (await doctor()).findings.find((one) => one.check === check && one.state !== 'ok' && text.test(one.text))
  const isWell = async () => {
    const { findings } = await doctor()
    assert.deepEqual(
      findings.filter(({ state }) => state === 'fault'),
      []
    )
    return true
  }

  it('examines a host that is in no mesh', async () => {
    const { verdict, findings } = await doctor()
    assert.notEqual(verdict, 'fault', JSON.stringify(findings))
    assert.deepEqual(
      findings
        .filter(({ state }) => state === 'ok')
        .map(({ check }) => check)
        .toSorted(),
      ['data-plane', 'disk']
    )
  })

  it('finds all well in a mesh that works', async () => {
    await unite(west(), site('east'))
    await reaches(west(), site('east'))
    await eventually(async () => (await peer(west(), 'east'))?.state === 'up')
    await inStep(west())
    await eventually(isWell)
    const checks = new Set((await doctor()).findings.map(({ check }) => check))
    for (const check of ['data-plane', 'drift', 'disk', 'tunnel', 'control', 'dns', 'upstream-dns'])
      assert.ok(checks.has(check), check)
  })

  it('is in a bundle with the state of the real kernel, which has no private key', async () => {
    const { device = '' } = (await status(west())).dataplane
    const { stdout: key } = await exec('wg', 'show', device, 'private-key')
    assert.match(key, /^[\w+/]{43}=$/m)
    const file = join(tmpdir(), `rhizome-bundle-${process.pid}.tar.gz`)
    try {
      // In the network namespace of the agent, as on its host: meshctl asks the kernel itself.
      const { stdout } = await exec(join(ROOT, 'bin/meshctl'), '--socket', west().socket, 'bundle', file)
      assert.match(stdout, /^Wrote /)
      const text = execFileSync('tar', ['-xzOf', file], { encoding: 'utf8', maxBuffer: 64 << 20 })
      assert.ok(!text.includes(key.trim()))
      assert.match(text, /^\$ wg show \S+ allowed-ips\n[\w+/]{43}=\t10\./m)
      assert.match(text, /^table inet rhizome-filter \{$/m)
      assert.match(text, /^rhizome_tunnel_path\{cluster="east",path="direct"\} 1$/m)
      assert.match(text, /^rhizome_propagation_seconds_count\{stop="kernel"\} [1-9]/m)
    } finally {
      rmSync(file, { force: true })
    }
  })

  const cases: readonly {
    readonly what: string
    readonly act: () => Promise<unknown>
    readonly undo: () => Promise<unknown>
    readonly check: string
    readonly says: RegExp
    readonly fix: RegExp
  }[] = [
    {
      what: 'a firewall of the other host that drops UDP',
      act: () =>
        nft(
          'east',
          'table inet deaf {\n chain in {\n type filter hook input priority -400;\n udp dport 51820 drop\n }\n}\n'
        ),
      undo: () => site('east').gateway.exec(['nft', 'delete', 'table', 'inet', 'deaf']),
      check: 'tunnel',
      says: /tunnel is down/,
      fix: /UDP .*:51820 .*both directions/
    },
    {
      what: 'a policy of this host that drops forwarded packets',
      act: () => exec('iptables-nft', '-P', 'FORWARD', 'DROP'),
      undo: () => exec('iptables-nft', '-P', 'FORWARD', 'ACCEPT'),
      check: 'fault',
      says: /policy of chain FORWARD/,
      fix: /iptables -I FORWARD/
    },
    {
      what: 'a routing rule of another program',
      act: async () => {
        await exec('ip', 'route', 'add', 'default', 'dev', 'wan0', 'table', '777')
        await exec('ip', 'rule', 'add', 'pref', '100', 'to', '10.0.0.0/8', 'lookup', '777')
      },
      undo: async () => {
        await exec('ip', 'rule', 'del', 'pref', '100')
        await exec('ip', 'route', 'flush', 'table', '777')
      },
      check: 'fault',
      says: /goes to wan0/,
      fix: /behind 5142/
    },
    {
      what: 'a rule that drops questions to the responder',
      act: () =>
        nft(
          'west',
          'table inet mute {\n chain out {\n type filter hook output priority -400;\n udp dport 53 drop\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'inet', 'mute'),
      check: 'dns',
      says: /does not answer over UDP/,
      fix: /UDP port 53/
    }
  ]
  for (const { what, act, undo, check, says, fix } of cases)
    it(`names ${what}, with the fix`, async () => {
      await act()
      try {
        await eventually(async () => {
          const finding = await found(check, says)
          assert.ok(finding, JSON.stringify((await doctor()).findings.filter(({ state }) => state !== 'ok')))
          assert.match(finding.fix ?? '', fix)
          return true
        }, 90_000)
      } finally {
        await undo()
      }
      await eventually(isWell, 90_000)
    })
})
