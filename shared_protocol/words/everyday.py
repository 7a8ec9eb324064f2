"""Everyday English words that name no thing, so that nobody is told that a model lacks them.

They are no vocabulary of any model, and nothing is known here of what they mean: function words,
common verbs and adjectives, and what pictures and prompts are spoken of with. Chosen from the
commonest English words (wordfreq 3.1) by the parts of speech in which WordNet 3.0 counts them, with
words of prompts added by hand. `known` knows their inflections.
"""

from __future__ import annotations

_ADJECTIVES = """
able about above abroad absolute abstract accurate active actual additional adopted adorable
afraid african after aged aggressive ago ahead alive all alone alternative amazing american
ancient angry annual another antique any apart apparent arctic armed arranged asian asleep
associated attached attractive automatic available aware away awful awkward baby bad bald
baroque basic bearded beautiful beige best better big billion biological bitter black blind blue
blunt blurry boring born both brave bright brilliant british broad broke broken brown built
bumpy busy calm capable careful certain cheap cheerful chinese chosen chubby cinematic circular
civil classic clear close cloudy clumsy cold collective colorful combined comfortable comic
commercial common competitive complex complicated comprehensive confident confirmed confused
consistent constant contemporary convinced correct countless cozy cracked crazy cream creative
creepy crimson crispy critical crucial crystal cultural curious curved cute cyan damp dangerous
dark dead decent declared dedicated deep defensive delicious democratic derived desperate
diagonal different difficult digital dim disabled disappointed distant distinct divided done
dotted double dozen dramatic drawn driven drunk dry dual due dumb dusty dutch dying dynamic each
early east eastern easy economic educated effective efficient eight eighteen eighth eighty
elderly elected electric electrical electronic elegant elementary eleven emotional employed
empty enchanted english enormous enough entire entitled environmental epic equal equipped
essential european every everyday evil excellent excited exciting exclusive expensive
experimental exposed extensive external extra extraordinary extreme faced fake fallen false
familiar famous fantastic far farthest featured federal female fierce fiery fifteen fifth fifty
final financial fine first five flat floral fluffy foggy folded foreign forgotten formal former
forty four fourteen fourth free french fresh friendly front frosty frozen fullhd fundamental
funny furry furthest future futuristic fuzzy gay general genetic gentle genuine german giant
gigantic given glad global glossy golden gone good goofy gorgeous gothic graceful grand grassy
grateful gray great greek green gross grown grumpy guilty hairy half handmade happy hard haunted
hazy hd hdr headed healthy heard heavy held helpful hidden high hired historic historical hollow
honest horizontal horrible hot huge human hundred hungry hyper icy ideal ill immediate important
impossible impressive in incredible indian indigo indoor industrial initial injured innocent
insane inside inspired integrated intelligent intended intense intent interested interesting
international intricate italian japanese joint joyful juicy just kind known laid large late
latin latter lavender lazy leafy least left legal less light little live local located lonely
long loose loud lower lucky mad made magenta magic magical main majestic major male many maroon
massive mechanical medical medieval mental metallic mexican mid middle military million mini
miniature minimal minimalist minor misty mobile modern monochrome moral most much muddy multi
multiple musical mysterious mystical naked narrow national native natural nearby nearest
necessary neither nervous new next nice nine nineteen ninety ninth no noisy none normal north
northern numerous observed obvious occupied odd offensive ok okay old olympic on one ongoing
opaque open opposed opposite orange ordinary organized original ornate other otherwise outdoor
outer outside outstanding oval over overall overgrown overseas oversized painful pale parallel
particular past pastel peaceful permanent personal photographic photorealistic physical pink
plain plastic playful pointy polite political poor popular positive possible potential powerful
practical precious pregnant pretty previous primary private professional progressive prominent
proper proud psychedelic public published pure purple quaint quick rainy random ranked rapid
rare raw real realistic rear reasonable recent recorded rectangular red regardless regional
regular rejected related relevant reliable religious remarkable remote resolute responsible
retired retro rich ridiculous right ripe ripped rocky roman romantic rotten rough round routine
royal rude rural russian rustic rusty sad safe said salty same sandy satisfied saturated scared
scarlet scary scientific second secondary secret senior sensitive serious settled seven
seventeen seventh seventy several severe sharp shimmering shiny short shy sick sideways
significant silent silly silver similar simple single six sixteen sixth sixty skinny sleepy
slender slim slimy slow small smoky smooth snowy soaked social soft solar solid some sorry
sought sour south southern spanish spare special specific spicy spiritual spoken spooky spot
stable standard steady steam sticky stormy straight strange strategic striped strong stupid
subsequent substantial successful such sudden sufficient suitable sunny super superior supreme
sure surreal suspended sweet taken talented tall tame tasty teal technical temporary ten tenth
terrible then thick thin third thirsty thirteen thirty thousand threatened three through tight
tiny tired together torn tough traditional trained translucent transparent triangular triple
tropical true turquoise twelve twenty two typical ugly uhd ultimate ultra unable under
underground understood underwater unique united universal unknown unlike unusual upcoming upper
upright urban useful usual valid valuable various vast vertical very vibrant victorian vintage
violent violet virtual visible visual vivid wavy weak weird west western wet white whole wide
wild windy wise wonderful wooden worldwide worse worth worthy wounded written wrong yellow young
"""
_OTHERS = """
accept achieve across acrylic act add address admit advance affect afford afternoon afterwards
again against agree aid aim alert allow almost along alongside already also although always am
amid among amongst amount an and angle animation anime answer anybody anymore anyone anything
anyway anywhere appear apply appreciate approach appropriate approve approximately are area
argue around arrest arrive art artist artstation artwork as aside ask assist assume at ate
atmosphere atop attack attempt attend automatically autumn average avoid award back backdrop
background backward bake balance barely base basically be became because become been before
began begin behind believe belong below bend beneath benefit beside bet between beyond bit bite
blame blink bloody bloom blow boil bokeh bottom bought break brief bring brought build bunch
burn burnt but buy by call came can cannot caption capture care carry cartoon cast catch caught
cause celebrate center centre challenge change charge chase check chew choose chop claim clean
click climb clipart closeup cm collage collect color colour column come comment commit compare
compete complete composition concern conduct connect consider contain continue contrast
contribute control cook cool corner cost could count couple cover crawl create cross crouch cry
currently cut damage damn dance dare dawn day deal decide defeat defend define definitely delay
deliver demand deny depict depth describe description deserve design desire destroy detail
determine develop did difference direct direction dirty discover discuss display distance dive
divorce do doubt down drank draw dream dress drew drink drive drop drove during dusk earn ease
eat eaten edge edit effect either element else elsewhere enable encourage end engage engraving
enjoy ensure enter escape especially establish estimate even eventually ever everybody everyone
everything everywhere exact example except excuse exercise exist expand expect experience
explain explore express extend facing fail fair fall fancy fast favor fear featuring feed feel
fell felt few fight fill film find finish fit fix flew float flow flown fly focus follow for
force foreground forever forget form forward fought found frame frequently from fry full fully
fun further gain gave gaze generate get give glance glow go got gotten grab grew group grow
guarantee guess had handle hang happen harm has hate have he hear height hello help hence her
here herself hey hi hid hide highlight him himself hit hold hop hope hopefully hour how however
hug hung hunt hurt icon idea identify if ignore illustrate illustration image imagine improve
include increase increasingly incredibly indeed indicate ink instead into introduce invite
involve is it item itself join judge juggle jump keep kept kick kill kiss kneel knew knock know
lain landscape last laugh lay layer lead lean leap learn leave led length lens let level lie
lift like limit line link list listen literally location logo look lose lost lot love low lying
macro maintain make manage march mark marry masterpiece match may maybe me mean meanwhile
measure meet melt mention merely met midday midnight might mine minute miss mistake mix mm month
mood more morning mount move movie must my myself name near need negative never night nobody non
noon nope nor not note nothing notice now nowhere number object obtain occasionally occur octane
of off offer officially often oil once onto operate or order ought our out own pack paint pair
panorama parked part participate pass pattern pay peek per perched perfect perform perhaps
perspective photo photograph photographer photography pic pick picture piece place plan play
please plenty pls point portrait pose position possibly post pour practice praise pray prefer
prepare present press pretend prevent prior probably produce progress promise promote propose
protect prove provide pull purchase push put px quality quantity quarter question quiet quit
quite quote raise ran range rather reach read ready realize reason recall receive recognize
recommend recover reduce refer reflect reflection regard region register relation relatively
relax release rely remain remember remind remove render repair repeat replace reply report
represent request require rescue resolution respect respectively respond rest resulting return
reveal reverse review ride rise risk rode roll rotate row run rush sail sang sat save saw say
scene scenery screenshot search season seated secure see seek seem seen select selfie sell semi
send sent separate sequence serve set shade shall shape share she shift shine shone shoot shot
should shout show shown shut side sign signal similarity simply since sing sit size sketch skip
sleep slept slice slightly slip smart smell smile snapshot so sold solve somebody somehow
someone something sometimes somewhat somewhere soon sort sound sparkle speak specifically speed
spell spend spill spin split spoke spread spring squat stand stare start stay steal step still
stood stop story stretch strike study stuff style subject succeed suffer suggest summer sunrise
sunset supply support suppose surprise surround survey survive suspect swam sweep swim switch
take talk tap taste teach tell temperature tend text texture than thank that the their them
theme themselves there therefore these they think this those though thought threw throughout
throw thrown thus tie till time title to today told tomorrow tonight too took top total touch
toward transfer travel treat trending truly trust try turn twice type underneath understand
unfortunately unless unreal until up update upon upset upside us use version via view visit wait
wake walk wallpaper want warm was wash waste watercolor wave way we wear weather wed week weep
welcome well went were what whatever when where whereas which while who whoever whom whose why
width will win wink winter wipe wish with within without won wonder word wore work worn worry
worst would write wrote yeah year yep yes yesterday yet you your yourself zero zone
"""
ADJECTIVES = frozenset(_ADJECTIVES.split())
"""They may be compared: taller, tallest."""
OTHERS = frozenset(_OTHERS.split())
"""All the others."""
