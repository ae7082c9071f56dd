// The host's own addresses: many bridges beside one uplink, an uplink whose address changes at one end and then at the other, and an
// address that comes only after the agent started. Members find each other again, and tokens name what reaches the host now.
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { wanAddress, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { init, invite, joins, peer, raise, reaches, status, unite } from './harness.ts'

describe('own addresses', function () {
  describe('beside twenty bridges of containers', () => {
    const { site } = raise('bridges', ['west', 'east'], { start: false })

    before(async () => {
      for (const cluster of ['west', 'east'] as const) await bridges(site(cluster), 20)
      await Promise.all([site('west').start(), site('east').start()])
      await init(site('west'))
    })

    it('a token names the uplink, and a newcomer with the same bridges joins with it', async () => {
      const answer = await site('west').ask<{ token: string; bootstrap: readonly string[] }>(
        'invite',
        'east',
        '--pod-cidr',
        '10.2.0.0/16',
        '--service-cidr',
        '10.102.0.0/16'
      )
      assert.deepEqual(
        answer.bootstrap.map((address) => address.split('/')[2]),
        [wanAddress('west')]
      )
      await joins(site('east'), answer.token)
      await reaches(site('west'), site('east'))
    })

    it('a restarted gateway is taken by its peers', async () => {
      await site('west').stop('SIGTERM')
      await site('west').start()
      await reaches(site('east'), site('west'))
      await eventually(async () => (await peer(site('east'), 'west'))?.connected === true)
    })
  })

  describe('that change', () => {
    const { site } = raise('moves', ['west', 'east'])
    const west = () => site('west')
    const east = () => site('east')

    before(async () => {
      await unite(west(), east())
      await both()
    })

    it('at one end, then at the other: control and traffic come back, and the invite names the present address', async () => {
      await move(west(), wanAddress('west'), '203.0.113.111')
      await both()
      await inviteNames(west(), '203.0.113.111')
      await move(east(), wanAddress('east'), '203.0.113.112')
      await both()
    })

    it('at one end twice while the other agent is down', async () => {
      await east().stop('SIGTERM')
      await move(west(), '203.0.113.111', '203.0.113.121')
      await move(west(), '203.0.113.121', '203.0.113.131')
      await east().start()
      await both()
    })

    it('at both ends at once, and at both ends while both agents are down: members on one link find each other again', async () => {
      await Promise.all([
        move(west(), '203.0.113.131', '203.0.113.141'),
        move(east(), '203.0.113.112', '203.0.113.142')
      ])
      await both()
      await Promise.all([west().stop('SIGTERM'), east().stop('SIGTERM')])
      await move(west(), '203.0.113.141', '203.0.113.151')
      await move(east(), '203.0.113.142', '203.0.113.152')
      await Promise.all([west().start(), east().start()])
      await both(90_000) // what WireGuard learned is kept until nothing was heard from there for 40 s
    })

    async function both(deadlineMs = 60_000): Promise<void> {
      await reaches(west(), east(), deadlineMs)
      await reaches(east(), west(), deadlineMs)
      await eventually(
        async () =>
          (await peer(west(), 'east'))?.connected === true &&
          (await peer(east(), 'west'))?.connected === true,
        60_000
      )
    }
  })

  describe('by name', () => {
    const { site } = raise('names', ['west', 'east'], { start: false })

    it('are resolved, told, and followed when the name leads elsewhere', async () => {
      const [west, east] = [site('west'), site('east')]
      const folder = `/etc/netns/${west.gateway.name}`
      const point = (address: string): void =>
        writeFileSync(`${folder}/hosts`, `127.0.0.1 localhost\n${address} gw.example.test\n`)
      mkdirSync(folder, { recursive: true })
      point(wanAddress('west'))
      await west.start('--wireguard-address', 'gw.example.test', '--announce', 'gw.example.test:7946')
      await east.start()
      await init(west)
      const token = await invite(west, 'east')
      await joins(east, token)
      await reaches(east, west, 20_000)
      await inviteNames(west, wanAddress('west'))
      point('203.0.113.161')
      await move(west, wanAddress('west'), '203.0.113.161')
      await inviteNames(west, '203.0.113.161')
      await reaches(east, west, 20_000)
      await reaches(west, east, 20_000)
      await eventually(async () => (await peer(east, 'west'))?.connected === true, 20_000)
    })
  })

  describe('that come after the start', () => {
    const { site } = raise('late', ['west', 'east'], { start: false })

    it('are told, listened on and named by invites', async () => {
      const [west, east] = [site('west'), site('east')]
      await west.gateway.exec(['ip', 'address', 'del', `${wanAddress('west')}/24`, 'dev', 'wan0'])
      await west.start('--listen', `/ip4/${wanAddress('west')}/tcp/7946`)
      await east.start()
      await init(west)
      await eventually(async () => /does not have the address/.test((await status(west)).warnings.join('\n')))
      await west.gateway.exec(['ip', 'address', 'add', `${wanAddress('west')}/24`, 'dev', 'wan0'])
      await eventually(
        async () => !/does not have the address/.test((await status(west)).warnings.join('\n'))
      )
      await joins(east, await invite(west, 'east'))
      await reaches(west, east, 20_000)
      await reaches(east, west, 20_000)
    })

    it('of the pods’ bridge, too: DNS and probe move to it', async () => {
      const [west, east] = [site('west'), site('east')]
      await west.stop('SIGTERM')
      await west.gateway.exec(['ip', 'address', 'del', '10.1.0.1/24', 'dev', 'pods0'])
      await west.start()
      await eventually(async () => (await status(west)).dns.address === '10.1.255.254:53')
      await west.gateway.exec(['ip', 'address', 'add', '10.1.0.1/24', 'dev', 'pods0'])
      await eventually(async () => (await status(west)).dns.address === '10.1.0.1:53')
      const { addresses } = await west.pod(0).resolve('web.shop.svc.cluster.west')
      assert.deepEqual(addresses, ['10.101.0.10'])
      await reaches(west, east, 20_000)
      await reaches(east, west, 20_000)
      await eventually(async () => (await peer(east, 'west'))?.state === 'up', 20_000)
    })
  })
})

async function inviteNames(site: Site, address: string): Promise<void> {
  await eventually(async () => {
    const { bootstrap } = await site.ask<{ bootstrap: readonly string[] }>(
      'invite',
      'edge',
      '--pod-cidr',
      '10.3.0.0/16',
      '--service-cidr',
      '10.103.0.0/16'
    )
    assert.deepEqual(
      bootstrap.filter((each) => each.startsWith(`/ip4/${address}/`)).length,
      1,
      bootstrap.join(' ')
    )
    return true
  })
}

/** Bridges as Docker makes them, listed before the uplink by their names, the same on every host. */
async function bridges(site: Site, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const name = index === 0 ? 'docker0' : `br-${index}`
    await site.gateway.exec(['ip', 'link', 'add', name, 'type', 'bridge'])
    await site.gateway.exec(['ip', 'address', 'add', `172.${17 + index}.0.1/16`, 'dev', name])
    await site.gateway.exec(['ip', 'link', 'set', name, 'up'])
  }
}

async function move(site: Site, from: string, to: string): Promise<void> {
  await site.gateway.exec(['ip', 'address', 'del', `${from}/24`, 'dev', 'wan0'])
  await site.gateway.exec(['ip', 'address', 'add', `${to}/24`, 'dev', 'wan0'])
}
