import { SCENARIOS } from './scenarios.ts'
import { RULES } from './world.ts'

describe('the trust set', () => {
  for (const { name, run } of SCENARIOS) it(name, () => run(RULES))
})
