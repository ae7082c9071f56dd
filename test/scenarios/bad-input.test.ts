// What people give: manifests, prefixes, tokens. Each mistake is named with its fix, and costs nobody what worked before.
import assert from 'node:assert/strict'
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeInviteToken, encodeInviteToken } from '../../src/core/trust/invite-token.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { podCidr, serviceCidr, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { forgedToken } from './forged-token.ts'
import { init, inStep, invite, joins, marks, raise, reaches, refused, status } from './harness.ts'

describe('bad input', () => {
  const { site } = raise('bad-input', ['west', 'east', 'edge'])

  describe('in no mesh yet', () => {
    before(() => init(site('west')))

    it('a token that was cut short is refused as such', async () => {
      const token = await invite(site('west'), 'east')
      const text = await refused(site('east').ctl('join', token.slice(0, -20)))
      assert.match(text, /missing or mistyped/)
      assert.match(text, /fix: Copy the whole token again/)
    })

    it('a token that has expired is refused at the door, with both times, and nothing is kept', async () => {
      const token = forgedToken(site('west'), { cluster: 'east', prefixes: EAST, agedSeconds: 7200 })
      const text = await refused(site('east').ctl('join', token))
      assert.match(text, /the invite of east expired .* ago, at .*; the sponsor's clock says/)
      assert.match(text, /fix: ask for a new token/)
      await isUntouched(site('east'))
    })

    it('a token whose member is of another mesh is refused, and nothing is kept', async () => {
      await init(site('edge'))
      try {
        const foreign = await invite(site('edge'), 'east')
        const good = await invite(site('west'), 'east')
        const text = await refused(
          site('east').ctl(
            'join',
            encodeInviteToken(crypto, { ...opened(foreign), bootstrap: opened(good).bootstrap })
          )
        )
        assert.match(text, /mesh/)
        assert.match(text, /fix: use a token of the mesh that the dialled agent is in/)
        await isUntouched(site('east'))
      } finally {
        await site('edge').ctl('leave', '--yes')
      }
    })

    it('prefixes of a member are refused to an invite, with the member’s name', async () => {
      const text = await refused(
        site('west').ctl('invite', 'east', '--pod-cidr', '10.1.128.0/17', '--service-cidr', '10.102.0.0/16')
      )
      assert.match(text, /10\.1\.128\.0\/17 overlaps 10\.1\.0\.0\/16 of cluster west/)
      assert.match(text, /fix: .*no other cluster of the mesh has/)
    })
  })

  describe('beside a working pair of clusters', () => {
    let token = ''

    before(async () => {
      token = await invite(site('west'), 'east')
      await joins(site('east'), token)
      await reaches(site('east'), site('west'))
      await reaches(site('west'), site('east'))
    })

    afterEach(async () => {
      await reaches(site('west'), site('east'), 500)
      await reaches(site('east'), site('west'), 500)
      await inStep(site('west'))
    })

    it('a malformed file and a service without endpoints cost nothing but themselves', async () => {
      const broken = join(site('east').manifests, 'broken.yaml')
      const lonely = join(site('east').manifests, 'lonely.yaml')
      writeFileSync(broken, 'kind: Service\nmetadata: {name: x\n')
      writeFileSync(lonely, LONELY)
      try {
        await eventually(async () => {
          const { source } = await status(site('east'))
          const text = JSON.stringify(source.problems)
          assert.match(text, /broken\.yaml/)
          assert.match(text, /lonely\.yaml/)
          for (const problem of source.problems) assert.ok(problem.fix, `no fix: ${problem.message}`)
          return true
        })
        const { stdout } = await site('east').ctl('status')
        assert.match(stdout, /broken\.yaml[^]*fix: /)
        await reaches(site('west'), site('east'), 500)
        // A service that has no endpoints is there, and refuses at once.
        await eventually(async () => {
          const { error } = await site('west').pod(0).tcp('10.102.0.200', 80, { timeoutMs: 1000 })
          assert.equal(error, 'ECONNREFUSED')
          return true
        })
      } finally {
        rmSync(broken)
        rmSync(lonely)
      }
      await eventually(async () => (await status(site('east'))).source.problems.length === 0)
    })

    it('a file that becomes malformed counts on as it was', async () => {
      const file = join(site('east').manifests, 'storefront.yaml')
      const text = readFileSync(file, 'utf8')
      const replace = (content: string): void => {
        writeFileSync(`${file}.new`, content)
        renameSync(`${file}.new`, file)
      }
      replace(`${text}\n  : [`)
      try {
        await eventually(async () => (await status(site('east'))).source.problems.length > 0)
        await reaches(site('west'), site('east'), 500)
      } finally {
        replace(text)
      }
      await eventually(async () => (await status(site('east'))).source.problems.length === 0)
    })

    it('a token is refused by an agent that is in a mesh already', async () => {
      const other = await invite(site('west'), 'edge')
      const { exitCode, stderr } = await site('east').ctl('join', other)
      assert.equal(exitCode, 5)
      assert.match(
        stderr,
        /this agent already belongs to cluster east of mesh-.*; the token is for cluster edge of the same mesh/
      )
      assert.match(stderr, /fix: run `meshctl join` on a gateway of cluster edge/)
    })

    it('a name that is taken is refused to an invite', async () => {
      const text = await refused(site('west').ctl('invite', 'east'))
      assert.match(text, /the name east is taken/)
    })

    it('a token that another cluster has redeemed is refused at the door: it is used', async () => {
      const text = await refused(site('edge').ctl('join', token))
      assert.match(text, /another key was admitted by this invite/)
      assert.match(text, /fix: ask for a new token/)
      await isUntouched(site('edge'))
    })

    it('a token for the name of a member is refused at the door', async () => {
      const prefixes = ['10.7.0.0/16', '10.107.0.0/16'] as const
      const text = await refused(
        site('edge').ctl('join', forgedToken(site('west'), { cluster: 'east', prefixes }))
      )
      assert.match(text, /another cluster has the name east/)
      assert.match(text, /fix: ask for an invite with another name/)
      await isUntouched(site('edge'))
    })

    it('prefixes that overlap a member’s are refused at the door', async () => {
      const prefixes = [podCidr('east'), '10.107.0.0/16'] as const
      const text = await refused(
        site('edge').ctl('join', forgedToken(site('west'), { cluster: 'edge', prefixes }))
      )
      assert.match(text, /10\.2\.0\.0\/16 of east overlaps a prefix of the invite/)
      assert.match(text, /fix: ask for an invite with other prefixes/)
      await isUntouched(site('edge'))
    })

    it('after all of it, the third cluster joins with a good token', async () => {
      await joins(site('edge'), await invite(site('west'), 'edge'))
      await reaches(site('edge'), site('east'))
      await reaches(site('east'), site('edge'))
    })
  })
})

const crypto = createCrypto()
const EAST = [podCidr('east'), serviceCidr('east')] as const
const LONELY = `apiVersion: v1
kind: Service
metadata: { name: lonely, namespace: shop }
spec:
  clusterIP: 10.102.0.200
  ports: [{ name: http, port: 80 }]
`

async function isUntouched(site: Site): Promise<void> {
  assert.equal((await status(site)).state, 'unjoined')
  assert.equal(await marks(site), '')
}

function opened(text: string): Extract<ReturnType<typeof decodeInviteToken>, { kind: 'token' }> {
  const token = decodeInviteToken(text, {
    crypto,
    nowSeconds: Math.floor(Date.now() / 1000),
    meshId: undefined
  })
  assert.equal(token.kind, 'token')
  return token
}
