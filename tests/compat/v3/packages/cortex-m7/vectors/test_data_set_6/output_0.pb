
BprobabilitiesJ(}й7ЪЛJ9(В19╝и"6кт─9LА╒7з╩?╠R,6П┤╘7d╕Ъ3