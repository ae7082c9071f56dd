import assert from 'node:assert/strict'
import { dialTargets, type DialInput, type Sighting } from '../../../src/app/session/dial-targets.ts'
import type { Origin, WireguardKey } from '../../../src/core/model/values.ts'
import type { AgentView, ProvedAgent } from '../../../src/core/view/view.ts'

const SELF = 'self' as Origin

const member = (name: string, ...multiaddrs: readonly string[]): AgentView => {
  const agent: ProvedAgent = {
    kind: 'agent',
    wireguardKey: `key of ${name}` as WireguardKey,
    wireguardAddresses: [],
    multiaddrs,
    tunnelAddress: undefined,
    node: name,
    role: 'gateway',
    version: '0',
    probePort: 0
  }
  return { origin: name as Origin, agent }
}

function targets(more: Partial<DialInput>, sightings: Readonly<Record<string, Sighting>> = {}) {
  return dialTargets({
    self: SELF,
    isDialable: true,
    isMember: true,
    bootstrap: [],
    others: [],
    sighting: (origin) => sightings[origin] ?? {},
    clusterOf: () => 'mesh',
    nowMs: 0,
    ...more
  })
}

describe('dial targets', () => {
  const east = member('east', '/ip4/203.0.113.7/tcp/7946')

  it('are the bootstrap addresses but its own, while no member is known', () => {
    const bootstrap = ['/ip4/192.0.2.1/tcp/7946', `/ip4/192.0.2.2/tcp/7946/p2p/${SELF}`]
    assert.deepEqual(targets({ bootstrap }), [{ addresses: ['/ip4/192.0.2.1/tcp/7946'] }])
  })

  it('leave out the PeerId of a bootstrap address at which another agent may be now, but not for a newcomer', () => {
    const [lost, known, same] = [
      '/ip4/192.0.2.1/tcp/7946/p2p/lost',
      '/ip4/192.0.2.9/tcp/7946/p2p/east',
      '/ip4/203.0.113.7/tcp/7946/p2p/former'
    ]
    const bootstrap = [lost, known, same]
    const dialled = (more: Partial<DialInput>) =>
      targets({ bootstrap, ...more }).flatMap(({ origin, addresses }) =>
        origin === undefined ? addresses : []
      )
    assert.deepEqual(dialled({ others: [east] }), ['/ip4/192.0.2.1/tcp/7946', known])
    assert.deepEqual(dialled({ others: [east], isMember: false }), bootstrap)
  })

  it('of a node are its gateways alone once it knows one: the bootstrap addresses may be of other clusters', () => {
    const bootstrap = ['/ip4/192.0.2.1/tcp/7946/p2p/west']
    const of = (more: Partial<DialInput>) => targets({ bootstrap, isLeaf: true, ...more })
    assert.deepEqual(of({}), [{ addresses: ['/ip4/192.0.2.1/tcp/7946'] }])
    assert.deepEqual(
      of({ others: [east] }).map(({ origin }) => origin),
      ['east']
    )
  })

  it('add to what a member publishes the host where it was seen and the address it called from', () => {
    const sighting = { host: '/ip4/198.51.100.9', called: '/ip4/10.0.0.5/tcp/7946' }
    assert.deepEqual(targets({ others: [east] }, { east: sighting }), [
      {
        group: 'mesh',
        proven: ['198.51.100.9'],
        origin: 'east',
        addresses: ['/ip4/203.0.113.7/tcp/7946', '/ip4/198.51.100.9/tcp/7946', '/ip4/10.0.0.5/tcp/7946']
      }
    ])
  })

  it('name each address of a member once', () => {
    const [target] = targets({ others: [east] }, { east: { host: '/ip4/203.0.113.7' } })
    assert.deepEqual(target?.addresses, ['/ip4/203.0.113.7/tcp/7946'])
  })

  it('are the bootstrap addresses also while the only known member publishes no address', () => {
    const bootstrap = ['/ip4/192.0.2.1/tcp/7946']
    assert.deepEqual(
      targets({ others: [member('hidden')], bootstrap }).flatMap(({ addresses }) => addresses),
      bootstrap
    )
    const named = targets({ others: [member('hidden'), east], bootstrap })
    assert.deepEqual(
      named.map(({ origin }) => origin),
      [undefined, 'east']
    )
  })

  it('leave the bootstrap addresses out once not every member is dialled', () => {
    const others = Array.from({ length: 40 }, (_, index) =>
      member(`m${index}`, `/ip4/203.0.113.${index + 1}/tcp/7946`)
    )
    const found = targets({ others, bootstrap: ['/ip4/192.0.2.1/tcp/7946'] })
    assert.ok(found.length > 0 && found.length < others.length, `${found.length} targets`)
    assert.ok(found.every(({ origin }) => origin !== undefined))
  })

  it('are the same for the same input', () => {
    const others = Array.from({ length: 40 }, (_, index) =>
      member(`m${index}`, `/ip4/192.0.2.${index}/tcp/1`)
    )
    assert.deepEqual(targets({ others }), targets({ others }))
  })

  it('in a large mesh are some members, and those whose tunnels need a control connection, too', () => {
    const others = Array.from({ length: 40 }, (_, index) =>
      member(`m${index}`, `/ip4/203.0.113.${index}/tcp/7946`)
    )
    const dialled = (more: Partial<DialInput>) =>
      new Set(targets({ others, clusterOf: (origin) => origin, ...more }).map(({ origin }) => origin))
    const before = dialled({})
    const left = others.filter(({ origin }) => !before.has(origin)).slice(0, 2)
    assert.equal(left.length, 2)
    const silent = member('silent')
    const wanted = new Set([...left.map(({ origin }) => origin), silent.origin])
    const after = dialled({ wanted, others: [...others, silent] })
    assert.deepEqual(
      left.filter(({ origin }) => !after.has(origin)),
      []
    )
    assert.equal(after.has(silent.origin), false, 'it publishes no address')
    assert.ok(after.size <= before.size + 3)
  })
})
