"""torch.nn.functional with a scheme: the products whose operands are rounded."""

from lowprec.functional.attention import scaled_dot_product_attention as scaled_dot_product_attention
from lowprec.functional.layers import conv1d as conv1d
from lowprec.functional.layers import conv2d as conv2d
from lowprec.functional.layers import conv3d as conv3d
from lowprec.functional.layers import linear as linear
from lowprec.functional.matrices import bmm as bmm
from lowprec.functional.matrices import matmul as matmul
from lowprec.functional.transposed import conv_transpose1d as conv_transpose1d
from lowprec.functional.transposed import conv_transpose2d as conv_transpose2d
from lowprec.functional.transposed import conv_transpose3d as conv_transpose3d
