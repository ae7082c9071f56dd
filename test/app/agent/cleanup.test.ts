// What `meshd cleanup` prints: what it has removed, or that nothing was there.
import assert from 'node:assert/strict'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import type { HostState } from '../../../src/core/host/host-state.ts'
import { cleanHost } from '../../../src/app/agent/cleanup.ts'
import { FakeHost } from '../host/fake-host.ts'

describe('meshd cleanup', () => {
  const clean = async (
    state: Partial<HostState>,
    { endsDns = false, hangs = false, others = [] as readonly string[] } = {}
  ): Promise<string> => {
    const host = new FakeHost()
    host.state = { ...EMPTY_HOST, ...state }
    if (hangs) host.hanging.set('routes', new Error('ip hangs'))
    let cleaned = 0
    host.cleanup = async () => void cleaned++
    const text = await cleanHost(host, { endDns: async () => endsDns, others: async () => others })
    assert.equal(cleaned, 1)
    return text
  }

  it('says what it has removed, with the numbers', async () => {
    const text = await clean(
      {
        tunnel: { device: 'rhizome0', listenPort: 51820, mtu: 1420, publicKey: 'k' as never },
        peers: [{}, {}] as never,
        routes: [{}] as never,
        vips: [{}, {}, {}] as never,
        virtualServers: [{}] as never,
        filter: {} as never,
        sysctls: [{}, {}] as never
      },
      { endsDns: true }
    )
    assert.equal(
      text,
      'Removed from this host: the tunnel rhizome0 with 2 peers, 1 route, 3 service prefixes, 1 virtual server, the packet filter.\n' +
        'Set back to their values before meshd: 2 sysctls.\n' +
        'Ended: the DNS responder.\n'
    )
  })

  it('leaves out what was not there', async () => {
    assert.equal(await clean({ routes: [{}, {}] as never }), 'Removed from this host: 2 routes.\n')
    assert.equal(await clean({}, { endsDns: true }), 'Ended: the DNS responder.\n')
  })

  it('says that nothing was found', async () => {
    assert.equal(
      await clean({}),
      'Nothing to remove: this host has no tunnel, route, virtual server, packet filter or DNS responder of meshd.\n'
    )
  })

  it('says that a device of another name was left, and how to remove it', async () => {
    assert.match(
      await clean({}, { others: ['wg7'] }),
      /^Nothing to remove: .*\nLeft: the device wg7, .*: meshd cleanup --device wg7\n$/
    )
  })

  it('does not say that nothing was found where a part could not be read', async () => {
    assert.equal(
      await clean({}, { hangs: true }),
      'Removed without a count, because it could not be read before: routes.\n'
    )
  })
})
