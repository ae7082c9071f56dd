// A user removes what a running agent needs: its socket, its state folder, parts of it. And `init` that asks before the agent is ready.
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { announce, inStep, raise, reaches, status, unite } from './harness.ts'

describe('what is removed under a running agent', function () {
  const { site } = raise('removed', ['west', 'east'])
  const west = () => site('west')
  const east = () => site('east')

  before(async () => {
    await unite(west(), east())
    await reaches(west(), east())
    // The invite of east is closed a moment after east has joined; the identity changes no more then.
    await eventually(() => /"invites": \[\]/.test(readFileSync(join(west().state, 'identity.json'), 'utf8')))
  })

  const removals: readonly (readonly [what: string, remove: (state: string) => void])[] = [
    ['the state folder', (state) => rmSync(state, { recursive: true })],
    ['the identity', (state) => rmSync(join(state, 'identity.json'))],
    ['the database', (state) => rmSync(join(state, 'db'), { recursive: true })],
    [
      'the state folder, replaced by an empty one that others can read,',
      (state) => {
        rmSync(state, { recursive: true })
        mkdirSync(state, { mode: 0o755 })
      }
    ]
  ]
  for (const [index, [what, remove]] of removals.entries()) {
    it(`${what}: said at once and written anew; after a kill -9 the cluster is who it was`, async () => {
      const { peerId, meshId, wireguardKey } = await status(west())
      const kept = readFileSync(join(west().state, 'identity.json'), 'utf8')
      remove(west().state)
      await eventually(async () =>
        /were removed or replaced while the agent runs/.test((await status(west())).warnings.join('\n'))
      )
      assert.equal(readFileSync(join(west().state, 'identity.json'), 'utf8'), kept)
      await eventually(() => existsSync(join(west().state, 'db/CURRENT')))
      await announce(west(), `removed-${index}`).seen(east()) // own records are on disk before a peer has them
      await west().stop('SIGKILL')
      await west().start()
      const again = await status(west())
      assert.deepEqual([again.peerId, again.meshId, again.wireguardKey], [peerId, meshId, wireguardKey])
      await reaches(west(), east())
      await reaches(east(), west())
      await announce(east(), `restored-${index}`).seen(west())
      await inStep(west())
    })
  }

  it('the admin socket: meshctl finds the agent again', async () => {
    rmSync(west().socket)
    await eventually(async () => (await west().ctl('status')).exitCode === 0)
  })
})

describe('a start', function () {
  const { site } = raise('starts', ['west'], { start: false })
  const west = () => site('west')

  afterEach(() => west().stop('SIGTERM'))

  it('an init that is asked for from the first moment on founds the cluster once, and it works without a restart', async () => {
    const asked = (async () => {
      for (;;) {
        const { exitCode, stderr } = await west().ctl(
          'init',
          '--cluster',
          'west',
          '--pod-cidr',
          podCidr('west'),
          '--service-cidr',
          serviceCidr('west')
        )
        if (exitCode === 0) return
        assert.doesNotMatch(stderr, /KEY_MISMATCH|INTERNAL|already/i)
      }
    })()
    await Promise.all([west().start(), asked])
    await inStep(west())
    const answer = await status(west())
    assert.equal(answer.state, 'running')
    assert.deepEqual(
      (answer.health?.faults ?? []).filter(({ severity }) => severity !== 'warning'),
      []
    )
    assert.equal(await tunnelKey(), answer.wireguardKey)
    await west().stop('SIGTERM')
    await west().start()
    assert.equal((await status(west())).wireguardKey, answer.wireguardKey)
  })

  const refusals: readonly (readonly [what: string, spoil: () => () => void, shown: RegExp])[] = [
    [
      'identity.json that others can read',
      () => {
        const path = join(west().state, 'identity.json')
        chmodSync(path, 0o644)
        return () => chmodSync(path, 0o600)
      },
      /identity\.json holds keys and is open to other users[^]*fix: chmod 600/
    ],
    [
      'a state folder that others can write',
      () => {
        chmodSync(west().state, 0o777)
        return () => chmodSync(west().state, 0o700)
      },
      /can be written by other users[^]*fix: .*chmod 700/
    ],
    [
      'a file at the socket’s path',
      () => {
        writeFileSync(west().socket, 'notes')
        return () => {
          assert.equal(readFileSync(west().socket, 'utf8'), 'notes')
          rmSync(west().socket)
        }
      },
      /meshd\.sock is a file, not a socket[^]*fix: move it away/
    ],
    [
      'a link at the socket’s path',
      () => {
        symlinkSync('/dev/null', west().socket)
        return () => rmSync(west().socket)
      },
      /meshd\.sock is a link, not a socket[^]*fix: move it away/
    ]
  ]
  for (const [what, spoil, shown] of refusals) {
    it(`with ${what} is refused with the fix`, async () => {
      await west().start() // for there to be an identity
      await west().stop('SIGTERM')
      const mend = spoil()
      try {
        const { exitCode, stderr } = await west().gateway.exec(west().meshd(), { check: false })
        assert.equal(exitCode, 1)
        assert.match(stderr, shown)
      } finally {
        mend()
      }
    })
  }

  async function tunnelKey(): Promise<string> {
    return (await west().gateway.exec(['wg', 'show', west().device, 'public-key'])).stdout.trim()
  }
})
