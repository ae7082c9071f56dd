// Others on the same host that take packets of the mesh away: each is named with its rule and what to do.
import assert from 'node:assert/strict'
import type { Fault } from '../../src/app/observe/health.ts'
import { eventually } from '../eventually.ts'
import { announce, peer, raise, reaches, status, unite } from './harness.ts'

describe('another on the host of a gateway', function () {
  const { site } = raise('obstacles', ['west', 'east'])
  const west = () => site('west')
  const exec = (...argv: readonly string[]) => west().gateway.exec(argv)

  before(async () => {
    await unite(west(), site('east'))
    await reaches(west(), site('east'))
    await eventually(async () => (await peer(west(), 'east'))?.state === 'up')
  })

  const all = async (code: string): Promise<readonly Pick<Fault, 'message' | 'fix'>[]> =>
    ((await status(west())).health?.faults ?? []).filter((fault) => fault.code === code)
  const found = async (code: string) => (await all(code))[0]
  const done = new Set<string>()

  interface Case {
    readonly code: string
    readonly act: () => Promise<unknown>
    readonly undo: () => Promise<unknown>
    readonly says: RegExp
    readonly fix: RegExp
  }
  const nft = (text: string) => west().gateway.exec(['nft', '-f', '-'], { input: text })
  const cases: Readonly<Record<string, () => Case>> = {
    'drops forwarded packets by a policy of iptables': () => ({
      code: 'FORWARD_DROPPED',
      act: () => exec('iptables-nft', '-P', 'FORWARD', 'DROP'),
      undo: () => exec('iptables-nft', '-P', 'FORWARD', 'ACCEPT'),
      says: /the policy of chain FORWARD of table filter \(iptables\)/,
      fix: new RegExp(`iptables -I FORWARD -i ${west().device} -j ACCEPT`)
    }),
    'drops forwarded packets by a rule of nftables': () => ({
      code: 'FORWARD_DROPPED',
      act: () =>
        nft(
          'table inet fw {\n chain pass {\n type filter hook forward priority 0;\n ip saddr 10.2.0.0/16 drop\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'inet', 'fw'),
      says: /from the tunnel to pods: rule \d+ \(drop\) in chain pass of table inet fw/,
      fix: /before the drop/
    }),
    'routes packets of the mesh elsewhere by an earlier rule': () => ({
      code: 'ROUTED_ELSEWHERE',
      act: async () => {
        await exec('ip', 'route', 'add', 'default', 'dev', 'wan0', 'table', '777')
        await exec('ip', 'rule', 'add', 'pref', '100', 'to', '10.0.0.0/8', 'lookup', '777')
      },
      undo: async () => {
        await exec('ip', 'rule', 'del', 'pref', '100')
        await exec('ip', 'route', 'flush', 'table', '777')
      },
      says: /cluster east .* goes to wan0: ip rule "100: from all to 10\.0\.0\.0\/8 lookup 777/,
      fix: /behind 5142/
    }),
    'drops packets as they come in, before they are forwarded': () => ({
      code: 'FORWARD_DROPPED',
      act: () =>
        nft(
          'table inet early {\n chain in {\n type filter hook prerouting priority -400;\n ip saddr 10.2.0.0/16 drop\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'inet', 'early'),
      says: /packets from the tunnel: rule \d+ \(drop\) in chain in of table inet early/,
      fix: /before the drop/
    }),
    'drops packets as they leave, after they are forwarded': () => ({
      code: 'FORWARD_DROPPED',
      act: () =>
        nft(
          'table inet late {\n chain out {\n type filter hook postrouting priority 400;\n ip daddr 10.2.0.0/16 drop\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'inet', 'late'),
      says: /packets into the tunnel: rule \d+ \(drop\) in chain out of table inet late/,
      fix: /before the drop/
    }),
    'drops what this host sends into the tunnel': () => ({
      code: 'FORWARD_DROPPED',
      act: () =>
        nft(
          'table ip own {\n chain out {\n type filter hook output priority 0;\n ip daddr 10.2.0.0/16 udp dport 7947 drop\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'ip', 'own'),
      says: /packets from this host into the tunnel: rule \d+ \(drop\) in chain out of table ip own/,
      fix: /before the drop/
    }),
    'translates sources before ours are kept': () => ({
      code: 'SOURCE_TRANSLATED',
      act: () =>
        nft(
          'table ip vpn {\n chain post {\n type nat hook postrouting priority 50;\n ip saddr 10.1.0.0/16 masquerade\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'ip', 'vpn'),
      says: /chain post of table ip vpn/,
      fix: /priority above 90/
    }),
    'drops what comes in for the probe': () => ({
      code: 'PROBES_DROPPED',
      act: () =>
        nft(
          'table inet ufw {\n chain incoming {\n type filter hook input priority 0; policy drop;\n tcp dport 7946 accept\n udp dport 51820 accept\n ct state established,related accept\n }\n}\n'
        ),
      undo: () => exec('nft', 'delete', 'table', 'inet', 'ufw'),
      says: /the policy of chain incoming of table inet ufw/,
      fix: /--dport 7947 -j ACCEPT/
    })
  }
  // All at once: each look reads everything, and looks are 30 s apart.
  for (const [what, make] of Object.entries(cases)) {
    it(`${what}: named with rule and fix`, async () => {
      const { code, says, fix } = make()
      if (done.size === 0) for (const each of Object.values(cases)) await each().act()
      done.add(what)
      await eventually(async () => (await all(code)).some(({ message }) => says.test(message)), 60_000)
      const fault = (await all(code)).find(({ message }) => says.test(message))
      assert.match(fault?.fix ?? '', fix)
    })
  }

  it('is not named any more when it is undone', async () => {
    for (const each of Object.values(cases)) await each().undo()
    await eventually(async () => {
      for (const each of Object.values(cases)) assert.deepEqual(await all(each().code), [])
      return true
    }, 60_000)
  })

  it('refuses packets of the mesh by an earlier rule: named, as one that routes them elsewhere', async () => {
    for (const type of ['prohibit', 'blackhole']) {
      await exec('ip', 'rule', 'add', 'pref', '100', 'to', '10.0.0.0/8', type)
      const says = new RegExp(
        `cluster east .* is refused: ip rule "100: from all to 10\\.0\\.0\\.0/8 ${type}`
      )
      await eventually(
        async () => (await all('ROUTED_ELSEWHERE')).some(({ message }) => says.test(message)),
        60_000
      )
      await exec('ip', 'rule', 'del', 'pref', '100')
    }
  })

  it('has links that talk to their neighbours and groups, as all have: nothing is said', async () => {
    const { device } = west()
    await exec('ip', 'address', 'add', 'fe80::5/64', 'dev', device, 'nodad')
    const ping = ['ping', '-c1', '-W1', '-I', `fe80::5%${device}`, `ff02::1%${device}`]
    await west().gateway.exec(ping, { check: false })
    const strays = ['list', 'set', 'inet', 'rhizome-filter', 'stray6']
    assert.doesNotMatch((await exec('nft', ...strays)).stdout, /fe80/)
  })

  it('sends into the tunnel from an address outside the pod prefixes, as a container behind NAT does: said', async () => {
    await exec('ip', 'address', 'add', '172.17.0.2/16', 'dev', 'lo')
    await eventually(async () => {
      await west().gateway.exec(['ping', '-c1', '-W1', '-I', '172.17.0.2', '10.2.0.1'], { check: false })
      return (await all('SOURCE_OUTSIDE')).some(({ message }) => message.includes('172.17.0.2'))
    }, 60_000)
  })

  it('has two services with one address and port: said with both names', async () => {
    announce(west(), 'filler')
    const { writeFileSync } = await import('node:fs')
    const service = (name: string) => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: 10.101.0.99, ports: [{ port: 80 }] }
`
    writeFileSync(`${west().manifests}/clash.yaml`, `${service('first')}---\n${service('second')}`)
    await eventually(async () => (await found('SERVICES_CLASH')) !== undefined, 60_000)
    assert.match((await found('SERVICES_CLASH'))?.message ?? '', /shop\/first and shop\/second/)
  })
})
