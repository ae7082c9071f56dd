// How a cluster goes of its own will: the others forget it, its host is as it was, and it may come back.
import assert from 'node:assert/strict'
import type { RoutesAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import { eventually } from '../eventually.ts'
import {
  done,
  inStep,
  invite,
  joins,
  look,
  marks,
  network,
  peer,
  raise,
  reaches,
  status,
  undisturbed,
  unite
} from './harness.ts'

describe('leaving', () => {
  const { site } = raise('leave', ['west', 'east', 'edge'], { start: false })
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')
  let untouched = ''

  before(async () => {
    untouched = await network(east())
    await Promise.all([west(), east(), edge()].map((each) => each.start()))
    await unite(west(), east(), edge())
    for (const [from, to] of [
      [west(), east()],
      [edge(), east()],
      [west(), edge()]
    ] as const)
      await reaches(from, to)
  })

  it('the others drop its peers, routes and names, and its own host is as it was', async () => {
    await undisturbed(west(), edge(), async () => {
      await done(east().ctl('leave', '--yes'))
      assert.equal((await status(east())).state, 'unjoined')
      assert.equal(await network(east()), untouched)
      for (const other of [west(), edge()]) {
        await eventually(async () => {
          assert.equal(await peer(other, 'east'), undefined)
          const { routes } = await look<RoutesAnswer>(other, 'routes')
          assert.deepEqual(
            routes.filter((route) => route.cluster === 'east'),
            []
          )
          assert.doesNotMatch(await marks(other), /10\.2\.0\.0|10\.102\.0\.0/)
          return true
        })
        const { addresses } = await other.pod(0).resolve('web.shop.svc.cluster.all')
        assert.deepEqual(addresses.toSorted(), [serviceIp.west, serviceIp.edge])
        const { error } = await other.pod(0).resolve('web.shop.svc.cluster.east')
        assert.ok(error === 'ENOTFOUND' || error === 'EREFUSED', error)
        await inStep(other)
      }
    })
  })

  it('it comes back with a new token under its old name', async () => {
    await joins(east(), await invite(west(), 'east'))
    await reaches(east(), edge())
    await reaches(edge(), east())
    await reaches(west(), east())
  })

  it('cleanup after a stop: nothing is left on the host, sysctls are as they were', async () => {
    await east().stop('SIGTERM')
    assert.notEqual(await network(east()), untouched, 'traffic flows on while the agent is stopped')
    await reaches(west(), east(), 500)
    const first = await done(east().gateway.exec(east().meshd('cleanup')))
    assert.match(
      first.stdout,
      /^Removed from this host: the tunnel .* with 2 peers, .*routes?, .*the packet filter\.$/m
    )
    assert.match(first.stdout, /^Set back to their values before meshd: \d+ sysctls?\.$/m)
    assert.equal(await network(east()), untouched)
    const second = await done(east().gateway.exec(east().meshd('cleanup')))
    assert.match(second.stdout, /^Nothing to remove: /)
    await east().start()
    await reaches(west(), east())
  })

  it('no member can be told: the leave names the command that says it later', async () => {
    await Promise.all([west().stop('SIGTERM'), east().stop('SIGTERM')])
    await eventually(async () => {
      for (const other of ['west', 'east'] as const)
        assert.equal((await peer(edge(), other))?.connected, false)
      return true
    })
    const { stderr } = await done(edge().ctl('leave', '--yes'))
    const command = /^No other member could be told\. Run meshctl (.*) on an administrator’s agent;/m.exec(
      stderr
    )
    assert.equal(command?.[1], 'remove edge')
    await west().start()
    assert.notEqual(await peer(west(), 'edge'), undefined)
    await done(west().ctl(...(command?.[1] ?? '').split(' ')))
    await eventually(async () => (await peer(west(), 'edge')) === undefined)
  })
})
