// Policies of balancing (docs/balancing.md) as a load balancer carries them out: the pods of the bench are the endpoints of
// three clusters, and the answers say which cluster each policy has chosen.
import assert from 'node:assert/strict'
import { MergedServices } from '../../src/core/host/merged-services.ts'
import { serviceServers } from '../../src/core/host/virtual-servers.ts'
import type { VirtualServer } from '../../src/core/host/host-state.ts'
import type { Cidr, ClusterName, Ip } from '../../src/core/model/values.ts'
import { balancedServices } from '../../src/core/view/balanced.ts'
import type { ClusterView, ServiceView } from '../../src/core/view/view.ts'
import { ECHO_PORT, PODS, VIP_PREFIXES, type Bench } from './load-balancer.ts'

const CLUSTERS = ['east', 'edge', 'west'] as const
type Cluster = (typeof CLUSTERS)[number]

interface State {
  readonly policy: string
  readonly down?: readonly Cluster[]
  readonly unready?: readonly Cluster[]
}

const ROUND_TRIPS: Partial<Record<string, number>> = { east: 20, west: 5 }
const COUNT = 40

/** Each row is a policy with a state of the clusters, and the parts of the answers in percent. */
const ROWS: readonly (readonly [State, Partial<Record<Cluster, number>>])[] = [
  [{ policy: 'weights=east:75,west:25' }, { east: 75, west: 25 }],
  [{ policy: 'weights=east:75,west:25', down: ['east'] }, { west: 100 }],
  [{ policy: 'failover=west,east' }, { west: 100 }],
  [{ policy: 'failover=west,east', down: ['west'] }, { east: 100 }],
  [{ policy: 'only=east' }, { east: 100 }],
  [{ policy: 'local-first' }, { edge: 100 }],
  [
    { policy: 'local-first', unready: ['edge'] },
    { east: 50, west: 50 }
  ],
  [{ policy: 'nearest' }, { edge: 100 }],
  [{ policy: 'only=east,west; nearest' }, { west: 100 }],
  [{ policy: 'only=east,west; nearest', down: ['west'] }, { east: 100 }]
]

/** `edge` is the cluster of the host that balances. */
export function policyContract(make: () => Bench): void {
  it('carries out every policy of a service over clusters', async () => {
    const { signal } = new AbortController()
    const bench = make()
    const balancer = bench.create()
    await balancer.start()
    await balancer.cleanup(signal)
    let have: VirtualServer | undefined
    for (const [state, parts] of ROWS) {
      const want = serverOf(state)
      await balancer.apply([{ want, have }], signal)
      have = want
      const said = JSON.stringify(state)
      assert.deepEqual(await balancer.observe(signal), [want], said)
      const answers = await bench.ask({ protocol: 'TCP', ip: want.vip, port: 80, count: COUNT })
      for (const [index, cluster] of CLUSTERS.entries()) {
        const count = answers.filter((answer) => answer === `${PODS[index]} ${ECHO_PORT}`).length
        const part = (parts[cluster] ?? 0) / 100
        // Exact where one cluster answers; a fair draw is within five standard deviations.
        const most = 5 * Math.sqrt(COUNT * part * (1 - part))
        assert.ok(Math.abs(count - part * COUNT) <= most, `${said}: ${cluster} has ${answers.join()}`)
      }
    }
    await balancer.cleanup(signal)
  })
}

function serverOf({ policy, down = [], unready = [] }: State): VirtualServer {
  const view = {
    self: 'edge' as ClusterName,
    clusters: new Map(CLUSTERS.map((name) => [name as ClusterName, clusterOf(name, { policy, unready })]))
  }
  const [web] = new MergedServices()
    .follow(balancedServices(view, { prefix: VIP_PREFIXES[0] as Cidr }), {
      self: view.self,
      isWithdrawn: (cluster) => down.some((name) => name === cluster),
      rttMs: (cluster) => ROUND_TRIPS[cluster]
    })
    .values()
  const [server] = web === undefined ? [] : serviceServers(web, 'rr').servers
  return server ?? assert.fail(`${policy} has no virtual server`)
}

function clusterOf(
  name: Cluster,
  { policy, unready }: { readonly policy: string; readonly unready: readonly Cluster[] }
): ClusterView {
  const isReady = !unready.includes(name)
  const web: ServiceView = {
    service: {
      kind: 'service',
      namespace: 'shop',
      name: 'web',
      clusterIps: [`10.10${CLUSTERS.indexOf(name)}.0.1` as Ip],
      ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
      headless: false,
      externalName: '',
      affinitySeconds: 0,
      publishNotReady: false,
      ...(name === 'edge' && { balance: policy })
    },
    slices: [
      {
        kind: 'endpointSlice',
        namespace: 'shop',
        name: 'web-1',
        service: 'web',
        ports: [{ name: 'http', protocol: 'TCP', port: ECHO_PORT }],
        endpoints: [
          {
            addresses: [PODS[CLUSTERS.indexOf(name)] as string as Ip],
            ready: isReady,
            serving: isReady,
            terminating: false,
            hostname: '',
            node: ''
          }
        ]
      }
    ]
  }
  const rest = {
    podPrefixes: [],
    servicePrefixes: [],
    agents: [],
    complete: true,
    conflicts: [],
    refusals: []
  }
  return { name: name as ClusterName, services: new Map([['shop/web', web]]), ...rest }
}
