// Real agents beside hostile peers: one mesh of three agents for all claims, since agents take long to start. README.md lists the claims. The order matters in
// three places: a hostile cluster must be older than edge (tokens.ts), the claims about removal leave no member behind that later claims need, and the search
// for secrets comes last, when there is most to search in.
import { floodClaims } from './floods.ts'
import { inheritanceClaims } from './inheritance.ts'
import { nameClaims } from './names.ts'
import { relayClaims } from './relays.ts'
import { removalClaims } from './removal.ts'
import { secretClaims } from './secrets.ts'
import { silenceClaims } from './silence.ts'
import { tokenClaims } from './tokens.ts'
import { volumeClaims } from './volume.ts'
import { voteClaims } from './votes.ts'
import { World } from './world.ts'
import { build } from '../built.ts'

describe('hostile peers beside honest agents', () => {
  let raised: World | undefined
  const world = (): World => {
    if (raised === undefined) throw new Error('the agents have not started')
    return raised
  }

  before(async () => {
    build()
    raised = await World.raise()
  })

  after(() => raised?.close())

  tokenClaims(world)
  silenceClaims(world)
  nameClaims(world)
  floodClaims(world)
  voteClaims(world)
  relayClaims(world)
  removalClaims(world)
  volumeClaims(world)
  inheritanceClaims(world)
  secretClaims(world)
})
