// What an operator is told of a rule of this host that drops the packets of the tunnel.
import assert from 'node:assert/strict'
import { Obstacles } from '../../../src/app/host/obstacles.ts'
import { Health, type Fault } from '../../../src/app/observe/health.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import type { LinuxHost } from '../../../src/io/host/host.ts'
import { meshOf } from '../../core/dns/fixtures.ts'

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined }

async function toldOf(
  kind: 'port' | 'egress',
  by: string,
  tunnels: 'down' | 'carried' | 'direct' = 'down'
): Promise<readonly Fault[]> {
  const health = new Health({ log: SILENT, now: () => 0 })
  const found = [{ kind, subject: 'UDP 51820', by }]
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only what Obstacles calls
  const host = { obstacles: async () => found } as unknown as LinuxHost
  const obstacles = new Obstacles({ host, health, device: 'rhizome0', probePort: 0, outerPorts: [] })
  const surroundings = { networks: [], gateways: [], resolvers: [], addresses: [] }
  const down = new Set(tunnels === 'down' ? ['west' as ClusterName] : [])
  await obstacles.look(
    { view: meshOf(), down, isAnyCarried: tunnels === 'carried', surroundings, nodeAddress: undefined },
    new AbortController().signal
  )
  return health.faults().filter(({ code }) => code === 'PORT_DROPPED')
}

describe('a rule that drops the port of WireGuard', () => {
  it('has the fix of the table in which it is: an accept of iptables does not undo a drop of another table', async () => {
    for (const [kind, by, fix] of [
      ['port', 'the policy of chain INPUT of ip filter', /^let UDP 51820 in: iptables -I INPUT /],
      [
        'port',
        'the policy of chain INPUT of table filter (iptables)',
        /^let UDP 51820 in: iptables -I INPUT /
      ],
      [
        'egress',
        'rule 7 (drop) in chain OUTPUT of table ip6 filter',
        /^let UDP 51820 out: iptables -I OUTPUT /
      ],
      ['port', 'rule 2 (drop) in chain i of table inet mine', /^accept udp dport 51820 in that chain /],
      ['egress', 'the policy of chain out of table ip mine-filter', /^accept udp dport 51820 in that chain /]
    ] as const)
      assert.match((await toldOf(kind, by))[0]?.fix ?? '', fix)
  })

  it('is an error while a cluster is down, a warning while its tunnel goes over TCP or a relay, and else nothing', async () => {
    for (const kind of ['port', 'egress'] as const) {
      const by = 'the policy of chain INPUT of ip filter'
      const severities = async (tunnels: 'down' | 'carried' | 'direct') =>
        (await toldOf(kind, by, tunnels)).map(({ severity }) => severity)
      assert.deepEqual(await severities('down'), ['error'])
      assert.deepEqual(await severities('carried'), ['warning'])
      assert.deepEqual(await severities('direct'), [])
    }
  })
})
