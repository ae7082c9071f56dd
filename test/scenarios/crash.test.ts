// kill -9 in the middle of changes, again and again, with pods that ask all the time.
import assert from 'node:assert/strict'
import { statSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServicesAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import type { Site } from '../demo/site.ts'
import { announce, inStep, raise, reaches, undisturbed, unite } from './harness.ts'

const ROUNDS = 10

describe('kill -9', () => {
  const { site } = raise('crash', ['west', 'east'])
  const west = () => site('west')
  const east = () => site('east')

  before(async () => {
    await unite(west(), east())
    await reaches(west(), east())
    await reaches(east(), west())
  })

  it('in the middle of changes: no request fails, and nothing that others have seen is lost', async function () {
    await undisturbed(west(), east(), async () => {
      for (let round = 0; round < ROUNDS; round++) {
        // One change that it publishes, and one that it must carry out on its host.
        const own = announce(east(), `round-${round}`)
        balanced(west(), round)
        for (let step = 0; step < round; step++) await east().pod(0).tcp(serviceIp.west, 80)
        if (round % 2 === 1) await own.seen(west())
        await east().stop('SIGKILL')
        await east().start()
      }
    })
    await announce(east(), 'after').seen(west())
    const { services } = await west().ask<ServicesAnswer>('services')
    const names = new Set(services.filter(({ cluster }) => cluster === 'east').map(({ name }) => name))
    for (let round = 0; round < ROUNDS; round++) assert.ok(names.has(`round-${round}-0`), `round ${round}`)
    assert.doesNotMatch(readFileSync(east().log, 'utf8'), /damaged|lost what was published|moved it to/)
    await inStep(east())
    await inStep(west())
  })

  it('with nothing changed: the restarted agent finds its host in step and runs no command', async () => {
    const before = await kernel(east())
    await east().stop('SIGKILL')
    const { size } = statSync(east().log)
    await undisturbed(east(), west(), async () => {
      await east().start()
      await inStep(east())
      await announce(east(), 'again').seen(west())
    })
    const log = readFileSync(east().log, 'utf8').slice(size)
    assert.doesNotMatch(log, /host changed|pass failed/)
    assert.equal(await kernel(east()), before)
  })
})

/** A service with an address, so that every other cluster gets a virtual server. */
function balanced(site: Site, number: number): void {
  writeFileSync(
    join(site.manifests, `balanced-${number}.yaml`),
    `apiVersion: v1
kind: Service
metadata: { name: balanced-${number}, namespace: shop }
spec: { clusterIP: 10.101.1.${number + 1}, ports: [{ port: 80 }] }
`
  )
}

async function kernel(site: Site): Promise<string> {
  const looks = await Promise.all(
    [
      ['ip', 'rule'],
      ['ip', 'route', 'show', 'table', 'all'],
      ['nft', 'list', 'ruleset'],
      ['wg', 'show', site.device, 'allowed-ips']
    ].map(async (argv) => (await site.gateway.exec(argv)).stdout)
  )
  return looks
    .join('\n')
    .replaceAll(/counter packets \d+ bytes \d+|elements = \{[^}]* expires [^}]*\}|expires \d+sec/g, '')
}
