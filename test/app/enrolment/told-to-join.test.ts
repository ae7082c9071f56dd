// The token in a file: who is told of it, and when.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { ToldToJoin } from '../../../src/app/enrolment/told-to-join.ts'
import { AppError } from '../../../src/app/observe/errors.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { CurrentSession } from '../../../src/app/session/current-session.ts'

describe('an agent with the setting token-file', () => {
  const log = pino({ enabled: false })
  let folder: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rhizome-told-'))
    await writeFile(join(folder, 'token'), 'rzm2_AAAA')
  })

  after(() => rm(folder, { recursive: true, force: true }))

  const told = (
    file: string,
    join: () => Promise<never> = () => Promise.reject(new Error('not asked')),
    health = new Health({ log, now: Date.now })
  ) =>
    new ToldToJoin({
      crypto: createCrypto(),
      file,
      sharedKey: undefined,
      enrolment: { join },
      founding: { isAsked: false, found: () => assert.fail('not asked to found') },
      current: new CurrentSession(),
      log,
      health
    })

  for (const [what, file, hasToken] of [
    ['is there', () => join(folder, 'token'), true],
    ['is not there', () => join(folder, 'none'), false],
    ['is a folder', () => folder, false],
    ['is not set', () => '', false]
  ] as const)
    it(`knows before the first attempt whether it has a token, where the file ${what}`, async () => {
      const one = told(file())
      await one.look()
      assert.equal(one.isTold, hasToken)
    })

  for (const [what, error, faults] of [
    ['an attempt that fails', new Error('no member answers'), ['NOT_JOINED']],
    // The agent looked for the token while `meshctl init` was under way.
    ['one that meets an init', new AppError('ALREADY_CHANGING', 'another init is under way', 'wait'), []]
  ] as const)
    it(`has ${faults.length === 0 ? 'no' : 'the'} fault after ${what}`, async () => {
      const health = new Health({ log, now: Date.now })
      const asked = Promise.withResolvers<void>()
      const one = told(
        join(folder, 'token'),
        () => {
          asked.resolve()
          return Promise.reject(error)
        },
        health
      )
      one.start()
      await asked.promise
      await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(
        health.faults().map(({ code }) => code),
        faults
      )
      await one.stop()
    })
})
