import assert from 'node:assert/strict'
import { multiaddr } from '@multiformats/multiaddr'
import { hostOf } from '../../../src/io/p2p/addresses.ts'
import { InboundBudget } from '../../../src/io/p2p/inbound-budget.ts'
import { DEFAULT_LIMITS } from '../../../src/io/p2p/limits.ts'

describe('strangers', () => {
  const keys: string[] = []
  const budget = new InboundBudget(DEFAULT_LIMITS)
  /** Connects from this multiaddr; returns whether it is admitted. */
  const connect = (address: string): boolean => {
    keys.push(address)
    const host = hostOf(multiaddr(address))
    return budget.admit({ key: address, host, abort: () => undefined, onClose: () => undefined })
  }
  after(() => keys.forEach((key) => budget.release(key)))

  it('from one IPv4 address or one /64 of IPv6 take a quarter of the places at most', () => {
    const many = Array.from({ length: 100 }, (_, index) => index + 1)
    assert.equal(many.filter((port) => connect(`/ip4/203.0.113.7/tcp/${port}`)).length, 64)
    assert.equal(many.filter((host) => connect(`/ip6/2001:db8:1:2::${host}/tcp/1`)).length, 64)
    assert.equal(connect('/ip6/2001:db8:1:3::1/tcp/1'), true, 'another /64 has a share of its own')
    assert.equal(connect('/ip4/203.0.113.8/tcp/1'), true)
  })
})
