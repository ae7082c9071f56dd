import assert from 'node:assert/strict'
import { multiaddr } from '@multiformats/multiaddr'
import { hostOf } from '../../../src/io/p2p/addresses.ts'
import { InboundBudget } from '../../../src/io/p2p/inbound-budget.ts'
import { DEFAULT_LIMITS, type TransportLimits } from '../../../src/io/p2p/limits.ts'
import { eventually } from '../../eventually.ts'

describe('strangers', () => {
  let keys: string[] = []
  let ended: string[] = []
  let budget = new InboundBudget(DEFAULT_LIMITS)

  const make = (limits: Partial<TransportLimits> = {}) => {
    budget = new InboundBudget({ ...DEFAULT_LIMITS, ...limits })
    ended = []
  }
  const connect = (address: string): string => {
    keys.push(address)
    const host = hostOf(multiaddr(address))
    budget.admit({ key: address, host, abort: () => ended.push(address), onClose: () => undefined })
    return address
  }
  const many = (count: number, address: (index: number) => string) =>
    Array.from({ length: count }, (_, index) => connect(address(index)))

  afterEach(() => {
    keys.forEach((key) => budget.release(key))
    keys = []
  })

  it('of one IPv4 address or one /64 of IPv6 take a quarter of the places, and only those of their own host', () => {
    make()
    many(100, (index) => `/ip4/203.0.113.7/tcp/${index + 1}`)
    many(100, (index) => `/ip6/2001:db8:1:2::${index + 1}/tcp/1`)
    const others = [connect('/ip6/2001:db8:1:3::1/tcp/1'), connect('/ip4/203.0.113.8/tcp/1')]
    assert.equal(budget.strangers, 64 + 64 + 2)
    assert.equal(ended.length, 72)
    for (const other of others) assert.ok(!ended.includes(other))
  })

  it('give the place of the oldest silent one to a newcomer, from however many addresses they come', () => {
    make()
    const flood = (index: number) => `/ip4/198.51.${index >> 8}.${index & 255}/tcp/1`
    const [first, second] = many(256, flood)
    assert.ok(first && second)
    assert.ok(budget.proved(first, false))
    const newcomer = connect('/ip4/203.0.113.9/tcp/1')
    assert.deepEqual(ended, [second], 'the one that has proved a PeerId stays')
    many(254, (index) => flood(1000 + index))
    assert.ok(!ended.includes(newcomer))
    assert.equal(budget.strangers, 256)
  })

  it('take no place of a known member', () => {
    make()
    const member = connect('/ip4/203.0.113.9/tcp/1')
    assert.ok(budget.proved(member, true))
    many(2000, (index) => `/ip4/198.51.${index >> 8}.${index & 255}/tcp/1`)
    assert.ok(!ended.includes(member))
    assert.equal(budget.strangers, 256)
  })

  it('are bounded in the number of members that arrive at one time, too', () => {
    make({ arrivingMembersMax: 2 })
    const arriving = many(3, (index) => `/ip4/203.0.113.9/tcp/${index + 1}`)
    assert.deepEqual(
      arriving.map((key) => budget.proved(key, true)),
      [true, true, false]
    )
  })

  it('end when they are silent, sooner than when they have proved a PeerId', async () => {
    make({ silentMs: 30, authenticationMs: 200 })
    const [silent, proved] = [connect('/ip4/203.0.113.9/tcp/1'), connect('/ip4/203.0.113.9/tcp/2')]
    budget.proved(proved, false)
    await eventually(() => ended.length === 2)
    assert.deepEqual(ended, [silent, proved])
    assert.equal(budget.strangers, 0)
  })

  it('of a host of a banned agent are slowed, and those of other hosts are not', () => {
    make()
    budget.slow('/ip4/203.0.113.9')
    assert.equal(budget.delayMs('/ip4/203.0.113.9'), 500)
    assert.equal(budget.delayMs('/ip4/203.0.113.10'), 0)
  })
})
