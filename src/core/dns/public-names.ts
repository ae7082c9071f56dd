// Cluster names that are top-level domains of the public DNS. With a cluster named `dev`, the zone `cluster.dev`
// belongs to the cluster, and `www.cluster.dev` does not exist in the mesh, although the public domain may have it.
// That is allowed, because names such as `eu` are common, but the answers of `meshctl init` and `invite` carry a
// warning (joined-answer.ts).
// Source: the root zone (IANA). Every name of two letters belongs to a country or is reserved for one (ISO 3166, RFC
// 1591).
import { clusterZone } from '../model/zones.ts'

/** The warning for a cluster name; undefined when it is no top-level domain. */
export function publicNameWarning(cluster: string): string | undefined {
  if (!/^[a-z]{2}$/.test(cluster) && !TOP_LEVEL.has(cluster)) return undefined
  return (
    `${clusterZone(cluster)} is also a name of the public DNS, since ${cluster} is a top-level domain: ` +
    `inside the mesh, public names below it such as www.${clusterZone(cluster)} no longer resolve; ` +
    `if they are needed, choose another name, for example ${cluster}-1`
  )
}

// Top-level domains that a user may choose as the name of a cluster. The root zone has about 1,400 more.
const TOP_LEVEL: ReadonlySet<string> = new Set(
  `com net org info biz name pro mobi tel travel jobs asia cat aero coop museum post edu gov mil int arpa xxx
  app dev prod page web cloud data site website online host hosting network systems computer software codes tech technology
  digital global international world zone space place land city town country center centre house build builders run work works
  tools services solutions support help team group company agency studio design consulting management partners enterprises
  industries engineering engineer energy green eco bio science academy school education university college institute training
  health healthcare care hospital clinic doctor dental bank insurance finance financial money cash capital fund ventures
  holdings market markets marketing trade trading exchange shop shopping store sale deals supply supplies parts equipment
  machinery auto cars car bike boats taxi limo express delivery logistics flights tours vacations hotel holiday
  restaurant cafe coffee bar pub pizza food kitchen cooking farm garden wine beer
  game games play fun party club live life love family kids baby dating singles fashion style clothing shoes jewelry
  football hockey golf tennis rugby run fitness yoga art gallery photo photos photography pictures film movie video
  audio music band radio show media press news report reviews blog wiki guide forum chat social community email link click
  download phone mobile box new now one plus red blue black pink gold silver moe ninja rocks cool lol vip win vote best top xyz
  day today here how foo zip mov meme search map maps channel call room safe save secure security select spot star talk
  weather zero law legal lawyer attorney tax properties realty estate rent rentals loans mortgage credit
  foundation charity ngo ong church faith bible islam africa london paris berlin hamburg koeln cologne bayern wien amsterdam
  brussels madrid barcelona istanbul moscow dubai tokyo osaka kyoto nagoya yokohama sydney melbourne nyc boston miami vegas
  quebec scot wales irish swiss ruhr saarland tirol gal eus bzh corsica aws azure google amazon microsoft apple oracle
  ibm sap cisco intel dell samsung sony android chrome windows xbox`
    .split(/\s+/)
    .filter((name) => name !== '')
)
