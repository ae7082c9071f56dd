import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Balancer, type BalancedCluster, type BalanceInput } from '../../../src/core/host/balance.ts'
import { HOST_LIMITS, type Amount } from '../../../src/core/host/host-limits.ts'
import { normalizeHost, EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import type { Cidr, ClusterName, Endpoint, Ip } from '../../../src/core/model/values.ts'
import { SortedMap, type Edit } from '../../../src/core/model/sorted-map.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'

const amount = (each: number): Amount => ({ virtualServers: each, realServers: 4 * each, entries: 40 * each })
/** So small that most inputs reach some of them. */
const LIMITS = { service: HOST_LIMITS.service, namespace: amount(4), cluster: amount(6), host: amount(8) }

function serviceOf(options: {
  readonly namespace: string
  readonly name: string
  readonly ips: readonly string[]
  readonly port: number
  readonly backends: number
}): ServiceView {
  const { namespace, name, ips, port, backends } = options
  return {
    service: {
      kind: 'service',
      namespace,
      name,
      clusterIps: ips as readonly Ip[],
      ports: [{ name: '', protocol: 'TCP', port, appProtocol: '' }],
      headless: false,
      externalName: '',
      affinitySeconds: 0,
      publishNotReady: false
    },
    slices: [
      {
        kind: 'endpointSlice',
        namespace,
        name,
        service: name,
        ports: [{ name: '', protocol: 'TCP', port: 8080 }],
        endpoints: Array.from({ length: backends }, (_, n): Endpoint => ({
          addresses: [`10.1.0.${n + 1}` as Ip],
          ready: true,
          serving: true,
          terminating: false,
          hostname: '',
          node: ''
        }))
      }
    ]
  }
}

const names = fc.constantFrom('a/x', 'a/y', 'a/z', 'b/x', 'b/y')
/** Few addresses, so that two services sometimes claim the same one. */
const service = fc
  .record({
    key: names,
    ips: fc.subarray(['10.101.0.1', '10.101.0.2', '10.101.7.1', 'fd00::1'], { minLength: 1, maxLength: 2 }),
    port: fc.integer({ min: 1, max: 4 }),
    backends: fc.nat(3)
  })
  .map(({ key, ...rest }): Edit<ServiceView> => {
    const [namespace = '', name = ''] = key.split('/')
    return [key, serviceOf({ namespace, name, ...rest })]
  })
const edit: fc.Arbitrary<Edit<ServiceView>> = fc.oneof(
  { weight: 3, arbitrary: service },
  { weight: 1, arbitrary: names.map((key): Edit<ServiceView> => [key, undefined]) }
)
const CLUSTERS = ['east', 'west', 'south'] as const

type Step =
  | { readonly kind: 'edit'; readonly cluster: number; readonly edits: readonly Edit<ServiceView>[] }
  | { readonly kind: 'withdraw'; readonly cluster: number; readonly is: boolean }
  | { readonly kind: 'members'; readonly count: number }
  | { readonly kind: 'keep'; readonly kept: readonly Cidr[] }

const cluster = fc.nat(CLUSTERS.length - 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('edit' as const),
      cluster,
      edits: fc.array(edit, { maxLength: 3 })
    })
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('withdraw' as const), cluster, is: fc.boolean() }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }).map((count): Step => ({ kind: 'members', count })) },
  {
    weight: 1,
    arbitrary: fc.subarray(['10.101.7.0/24' as Cidr]).map((kept): Step => ({ kind: 'keep', kept }))
  }
)

class World {
  readonly #clusters: BalancedCluster[] = CLUSTERS.map((name) => ({
    name: name as ClusterName,
    services: SortedMap.empty<ServiceView>(),
    isWithdrawn: false
  }))
  #count = 2
  #kept: readonly Cidr[] = []

  take(each: Step): void {
    if (each.kind === 'members') this.#count = each.count
    else if (each.kind === 'keep') this.#kept = each.kept
    else {
      const before = this.#clusters[each.cluster] ?? assert.fail()
      const services = SortedMap.from(before.services)
      this.#clusters[each.cluster] =
        each.kind === 'withdraw'
          ? { ...before, isWithdrawn: each.is }
          : { ...before, services: (before.services as typeof services).with(each.edits) }
    }
  }

  get input(): BalanceInput {
    return { clusters: this.#clusters.slice(0, this.#count), scheduler: 'rr', kept: this.#kept }
  }
}

describe('the virtual servers of a host', () => {
  for (const [what, limits] of [
    ['where all fit', HOST_LIMITS],
    ['where many do not', LIMITS]
  ] as const) {
    it(`are after any sequence of changes what making them anew gives, ${what}`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
          const world = new World()
          const kept = new Balancer(limits)
          for (const each of steps) {
            world.take(each)
            const result = kept.follow(world.input)
            assert.deepEqual(result, new Balancer(limits).follow(world.input))
            const { virtualServers } = normalizeHost({ ...EMPTY_HOST, virtualServers: result.virtualServers })
            assert.deepEqual(result.virtualServers, virtualServers)
          }
        }),
        { numRuns: 400 }
      )
    })
  }

  it('are the same objects but for the service that changed', () => {
    const services = SortedMap.from(
      Array.from({ length: 2000 }, (_, n) => {
        const name = `svc-${n}`
        const ips = [`10.101.${n >> 8}.${n & 255}`]
        return [`a/${name}`, serviceOf({ namespace: 'a', name, ips, port: 80, backends: 2 })] as const
      })
    )
    const one = (of: SortedMap<ServiceView>): BalanceInput => ({
      clusters: [{ name: 'east' as ClusterName, services: of, isWithdrawn: false }],
      scheduler: 'rr',
      kept: []
    })
    const balancer = new Balancer()
    const before = balancer.follow(one(services)).virtualServers
    const ips = ['10.101.0.7']
    const changed = serviceOf({ namespace: 'a', name: 'svc-7', ips, port: 80, backends: 3 })
    let reads = 0
    const after = balancer.follow(
      one(
        new Proxy(services.with([['a/svc-7', changed]]), {
          get: (of, field: keyof SortedMap<ServiceView>) => {
            if (field === 'values' || field === 'entries') reads++
            const value = of[field]
            return typeof value === 'function' ? value.bind(of) : value
          }
        })
      )
    ).virtualServers
    assert.equal(reads, 0, 'all services were walked through')
    assert.deepEqual(
      after.flatMap((server, at) => (server === before[at] ? [] : [server.vip])),
      ips
    )
  })
})
