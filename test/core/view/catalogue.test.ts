import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { createViewBuilder, type ViewInput } from '../../../src/core/view/build-view.ts'
import { isPosition } from '../../../src/core/replication/head.ts'
import {
  keyOf,
  type Cidr,
  type ClusterValue,
  type EndpointSliceValue,
  type Ip,
  type ServiceValue,
  type Value
} from '../../../src/core/model/values.ts'
import { publicKeyOf } from '../../../src/core/model/identity.ts'
import { createProtocol, type Protocol } from '../../../src/core/replication/protocol.ts'
import {
  agentOf,
  clusterName,
  crypto,
  EAST,
  join,
  makeMesh,
  membersOf,
  type TestAgent
} from '../trust/fixtures.ts'

const mesh = makeMesh()
const west = agentOf(mesh.founder, 'west-1')
const eastCluster = join(mesh, EAST)
const agents = [agentOf(eastCluster, 'east-1'), agentOf(eastCluster, 'east-2')] as const

const WEST_NAME = clusterName('west')
/** One change at one of the two agents of a cluster. */
type Step = { readonly agent: 0 | 1; readonly changes: readonly { key: string; value: Value | undefined }[] }

const name = fc.constantFrom('a', 'b', 'c')
const inside = fc.constantFrom('10.102.0.1', '10.102.0.2', '10.109.0.1')
const pod = fc.constantFrom('10.2.0.1', '10.2.128.1', '10.9.0.1')
const exportTo = fc.constantFrom(undefined, [WEST_NAME] as const, [clusterName('edge')] as const)
const service = fc
  .record({ name, ip: inside, exportTo })
  .map(({ name: of, ip, exportTo: to }): ServiceValue => ({
    kind: 'service',
    namespace: 'shop',
    name: of,
    clusterIps: [ip as Ip],
    ports: [{ name: '', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless: false,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false,
    ...(to && { exportTo: to })
  }))
const slice = fc
  .record({
    slice: fc.constantFrom('s1', 's2', 's3', 's4'),
    of: name,
    pods: fc.uniqueArray(pod, { maxLength: 3 })
  })
  .map(({ slice: own, of, pods }): EndpointSliceValue => ({
    kind: 'endpointSlice',
    namespace: 'shop',
    name: own,
    service: of,
    ports: [{ name: '', protocol: 'TCP', port: 8080 }],
    endpoints: pods.map((ip) => ({
      addresses: [ip as Ip],
      ready: true,
      serving: true,
      terminating: false,
      hostname: '',
      node: ''
    }))
  }))
const claim = fc
  .record({ half: fc.boolean(), term: fc.integer({ min: 1, max: 2 }), complete: fc.boolean() })
  .map(({ half, term, complete }): ClusterValue => ({
    kind: 'cluster',
    podPrefixes: [(half ? '10.2.0.0/17' : '10.2.0.0/16') as Cidr],
    servicePrefixes: ['10.102.0.0/16' as Cidr],
    term,
    complete
  }))
const put = fc.oneof(
  { weight: 3, arbitrary: service },
  { weight: 5, arbitrary: slice },
  { weight: 1, arbitrary: claim }
)
const change = fc.oneof(
  { weight: 3, arbitrary: put.map((value) => ({ key: keyOf(value), value })) },
  { weight: 2, arbitrary: put.map((value) => ({ key: keyOf(value), value: undefined })) }
)
const step: fc.Arbitrary<Step> = fc.record({
  agent: fc.constantFrom(0, 0, 0, 1),
  changes: fc.array(change, { minLength: 1, maxLength: 5 })
})

class World {
  readonly #protocols: readonly Protocol[] = agents.map((agent) => protocolOf(agent))
  readonly #members = membersOf(mesh, [west, ...agents])
  #nowMs = 0

  take({ agent, changes }: Step): void {
    this.#nowMs += 1000
    this.#protocols[agent]?.publish(changes, this.#nowMs)
  }

  /** Forgets nothing that was asked for: `read` gets the keys that were. */
  input(read: (key: string) => void = () => undefined): ViewInput {
    const of = (origin: string) =>
      this.#protocols[agents.findIndex(({ credential }) => credential.origin === origin)]
    return {
      self: clusterName('west'),
      selfOrigin: west.credential.origin,
      members: this.#members,
      origins: agents.map(({ credential }) => credential.origin),
      records: (origin) => of(origin)?.records(origin).values() ?? [],
      version: (origin) => of(origin)?.head(origin),
      record: (origin, key) => {
        read(key)
        return of(origin)?.records(origin).get(key)
      },
      keysSince: (origin, version) =>
        isPosition(version) ? of(origin)?.keysSince(origin, version) : undefined
    }
  }
}

function protocolOf(agent: TestAgent): Protocol {
  return createProtocol({
    self: agent.credential.origin,
    selfSeed: agent.seed,
    meshId: mesh.meshId,
    crypto,
    admission: {
      isAdmitted: () => true,
      clusterOf: () => undefined,
      admit: () => ({ kind: 'refused', reason: 'nobody else' }),
      credentialOf: () => undefined,
      publicKeyOf
    },
    limits: { tombstonesMax: 3 }
  })
}

describe('the services of a cluster', () => {
  it('are after any sequence of changes what reading all records anew gives', () => {
    fc.assert(
      fc.property(fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { maxLength: 12 }), (rounds) => {
        const world = new World()
        const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
        for (const round of rounds) {
          for (const each of round) world.take(each)
          assert.deepEqual(
            builder.build(world.input()),
            createViewBuilder({ crypto, meshId: mesh.meshId }).build(world.input())
          )
        }
      }),
      { numRuns: 150 }
    )
  })

  it('cost what changed: one record among thousands is read, and the other services are the same objects', () => {
    const world = new World()
    const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
    const many: Value[] = [
      {
        kind: 'cluster',
        podPrefixes: ['10.2.0.0/16' as Cidr],
        servicePrefixes: ['10.102.0.0/16' as Cidr],
        term: 1,
        complete: true
      }
    ]
    const [sampled] = fc.sample(service, 1)
    const [oneSlice] = fc.sample(slice, 1)
    assert.ok(sampled && oneSlice)
    // For all clusters, so that this one has all of them.
    const { exportTo: _, ...oneService } = sampled
    for (let n = 0; n < 3000; n++) {
      many.push({ ...oneService, name: `svc-${n}`, clusterIps: [] })
      many.push({ ...oneSlice, name: `eps-${n}`, service: `svc-${n}` })
    }
    world.take({ agent: 0, changes: many.map((value) => ({ key: keyOf(value), value })) })
    const east = clusterName('east')
    const before = builder.build(world.input()).clusters.get(east)?.services
    assert.equal(before?.size, 3000)
    const next: Value = { ...oneSlice, name: 'eps-7', service: 'svc-7', ports: [] }
    world.take({ agent: 0, changes: [{ key: keyOf(next), value: next }] })
    const read = new Set<string>()
    const after = builder.build(world.input((key) => read.add(key))).clusters.get(east)?.services
    assert.ok(after)
    assert.deepEqual([...read].sort(), ['agent', 'cluster', 'eps/shop/eps-7'])
    const moved = [...after].filter(([key, view]) => before.get(key) !== view).map(([key]) => key)
    assert.deepEqual(moved, ['shop/svc-7'])
  })
})
